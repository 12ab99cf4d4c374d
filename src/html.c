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
