/*
 * html.c
 *	  Checks src/html.c: whatever a text is, nothing of it means anything to a
 *	  browser, and what can be shown is there.
 *
 * The input is a name, of a database that has no encoding.
 */
#include "postgres.h"

#include "html.h"
#include "mb/pg_wchar.h"
#include "programs.h"

#define KEPT 4000
#define REPLACEMENT 0xfffd

static unsigned char name[KEPT + 1];
static size_t length;

/* Of the server; any text may come, as the database says nothing of it. */
int
GetDatabaseEncoding(void)
{
	return PG_SQL_ASCII;
}

char *
pg_server_to_any(const char *s, int len, int encoding)
{
	(void) len;
	(void) encoding;
	return unconstify(char *, s);
}

/*
 * The character at a place by the Unicode standard's table 3-6, and where the
 * next one is; -1 if there is none.
 */
static int
take_character(size_t *place)
{
	static const int least[] = {0, 0x80, 0x800, 0x10000};
	unsigned char first = name[*place];
	int			more = first < 0x80 ? 0 : first < 0xc0 ? -1 : first < 0xe0 ? 1 :
		first < 0xf0 ? 2 : first < 0xf8 ? 3 : -1;
	int			c = more > 0 ? first & (0x3f >> more) : first;

	(*place)++;
	if (more < 0 || *place + (size_t) more > length)
		return -1;
	for (int i = 0; i < more; i++)
	{
		if ((name[*place + i] & 0xc0) != 0x80)
			return -1;
		c = c << 6 | (name[*place + i] & 0x3f);
	}
	if (c < least[more] || (c >= 0xd800 && c < 0xe000) || c > 0x10ffff)
		return -1;
	*place += more;
	return c;
}

static bool
is_letter(int c)
{
	return c == ' ' || (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') ||
		(c >= 'a' && c <= 'z');
}

/* The next character of what was written, which is ASCII. */
static int
take_written(const char **out)
{
	const char *c = *out;
	int			number = 0;

	if (*c != '&')
	{
		CHECK(*c >= ' ' && *c < 0x7f && strchr("<>\"'`=", *c) == NULL);
		(*out)++;
		return *c;
	}
	CHECK(c[1] == '#' && c[2] >= '1' && c[2] <= '9');
	for (c += 2; *c != ';'; c++)
	{
		CHECK(*c >= '0' && *c <= '9' && number < 0x110000);
		number = number * 10 + (*c - '0');
	}
	*out = c + 1;
	return number;
}

/* Of what is never shown: controls, what turns the direction, what is unseen. */
static bool
is_hidden(int c)
{
	static const int hidden[][2] = {
		{0, 0x1f}, {0x7f, 0x9f}, {0xad, 0xad}, {0x61c, 0x61c}, {0x200b, 0x200b},
		{0x200e, 0x200f}, {0x2028, 0x202e}, {0x2060, 0x206f}, {0xd800, 0xdfff},
		{0xfeff, 0xfeff}, {0xfffe, 0xffff}, {0xe0000, 0xe0fff}
	};

	for (size_t i = 0; i < lengthof(hidden); i++)
		if (c >= hidden[i][0] && c <= hidden[i][1])
			return true;
	return c > 0x10ffff || (c & 0xffff) >= 0xfffe;
}

static void
run_program(void)
{
	StringInfoData out;
	const char *written;
	size_t		place = 0;

	for (length = 0; input_left > 0 && length < KEPT; length++)
		/* in text there is no zero */
		name[length] = (unsigned char) (1 + take_byte(255));
	name[length] = '\0';
	initStringInfo(&out);
	qs_html(&out, "%s", (char *) name);
	written = out.data;
	while (place < length)
	{
		int			given = take_character(&place);
		int			shown = take_written(&written);

		step++;
		CHECK(!is_hidden(shown));
		if (given < 0 || (given >= 0x20 && is_hidden(given)))
			CHECK(shown == REPLACEMENT);
		else if (given < 0x20)
			CHECK(shown == 0x2400 + given);
		else
			CHECK(shown == given);
		CHECK(!is_letter(given) || written[-1] == given);
	}
	CHECK(*written == '\0');
	pfree(out.data);
}
