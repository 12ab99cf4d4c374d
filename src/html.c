/*
 * html.c
 *	  Writes HTML: see html.h.
 */
#include "postgres.h"

#include "html.h"
#include "mb/pg_wchar.h"

/* what stands for what cannot be shown */
#define REPLACEMENT 0xfffd

/* Of these a text would change how what follows it is read, or is not seen. */
static bool
is_hidden(pg_wchar c)
{
	return (c >= 0x7f && c < 0xa0) || c == 0xad || c == 0x61c ||
		c == 0x200b || c == 0x200e || c == 0x200f || (c >= 0x2028 && c <= 0x202e) ||
		(c >= 0x2060 && c <= 0x206f) || c == 0xfeff ||
		(c >= 0xd800 && c < 0xe000) || (c >= 0xe0000 && c < 0xe1000) ||
		(c & 0xfffe) == 0xfffe || c > 0x10ffff;
}

static void
put_character(StringInfo out, pg_wchar c)
{
	if (c < 0x20)
		c += 0x2400;			/* the picture of a control character */
	if (is_hidden(c))
		c = REPLACEMENT;
	if (c >= 0x80 || strchr("&<>\"'`=", (int) c) != NULL)
		appendStringInfo(out, "&#%u;", c);
	else
		appendStringInfoChar(out, (char) c);
}

/* The one place where text becomes HTML. */
static void
put_text(StringInfo out, const char *text)
{
	const unsigned char *c;
	const unsigned char *end;

	/* in SQL_ASCII bytes may be anything */
	if (GetDatabaseEncoding() != PG_SQL_ASCII)
		text = pg_server_to_any(text, (int) strlen(text), PG_UTF8);
	c = (const unsigned char *) text;
	end = c + strlen(text);
	while (c < end)
	{
		int			length = pg_utf_mblen(c);

		if (length > end - c || !pg_utf8_islegal(c, length))
		{
			put_character(out, REPLACEMENT);
			length = 1;
		}
		else
			put_character(out, utf8_to_unicode(c));
		c += length;
	}
}

/*
 * Appends the format, which is HTML, with what is given for %s (text), %d (an
 * int) and %f (a coordinate, with one decimal).
 */
void
qs_html(StringInfo out, const char *format,...)
{
	va_list		args;

	va_start(args, format);
	for (const char *c = format; *c != '\0'; c++)
	{
		if (*c != '%')
		{
			appendStringInfoChar(out, *c);
			continue;
		}
		switch (*++c)
		{
			case 's':
				put_text(out, va_arg(args, const char *));
				break;
			case 'd':
				appendStringInfo(out, "%d", va_arg(args, int));
				break;
			case 'f':
				appendStringInfo(out, "%.1f", va_arg(args, double));
				break;
			default:
				appendStringInfoChar(out, *c);
		}
	}
	va_end(args);
}

/* A number in few characters: 0.25, 17, 1.5k, 23M. */
const char *
qs_number_text(double number)
{
	static const char *const units[] = {"", "k", "M", "G", "T"};
	int			unit = 0;

	while (number >= 999.5 && unit < (int) lengthof(units) - 1)
	{
		number /= 1000;
		unit++;
	}
	if (unit == 0 && number > 0 && number < 0.01)
		return "<0.01";
	return psprintf("%.*g%s", number >= 99.5 ? 3 : 2, number, units[unit]);
}

/* A count with all of its digits: 1,234,567. */
const char *
qs_count_text(int64 count)
{
	char	   *digits = psprintf(INT64_FORMAT, count);
	int			length = (int) strlen(digits);
	StringInfoData text;

	initStringInfo(&text);
	for (int i = 0; i < length; i++)
	{
		if (i > 0 && (length - i) % 3 == 0 && digits[i - 1] != '-')
			appendStringInfoChar(&text, ',');
		appendStringInfoChar(&text, digits[i]);
	}
	return text.data;
}

/* A duration in few characters: 250 us, 1.2 s, 3 min, 2 h, 5 d. */
const char *
qs_seconds_text(double seconds)
{
	static const struct
	{
		double		below;		/* seconds */
		double		unit;
		const char *name;
	}			units[] = {
		{1e-3, 1e-6, "us"}, {1, 1e-3, "ms"}, {60, 1, "s"},
		{3600, 60, "min"}, {86400, 3600, "h"}, {0, 86400, "d"}
	};
	int			i = 0;

	if (seconds <= 0)
		return "0 s";
	while (i < (int) lengthof(units) - 1 && seconds >= units[i].below)
		i++;
	seconds /= units[i].unit;
	return psprintf("%.*g %s", seconds >= 99.5 ? 3 : 2, seconds, units[i].name);
}
