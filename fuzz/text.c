/*
 * text.c
 *	  Checks worker/text.c: whatever a handler writes becomes text that
 *	  PostgreSQL takes, and JSON that says the same.
 *
 * The input is what a handler writes.
 */
#include "postgres_fe.h"

#include "text.h"
#include "programs.h"

#define KEPT 4000
#define REPLACEMENT "\xEF\xBF\xBD"

static char bytes[KEPT];
static size_t length;

/* How long the character is, by the Unicode standard's table 3-6; 0: none. */
static size_t
character(const char *at, size_t left)
{
	static const unsigned least[] = {0, 1, 0x80, 0x800, 0x10000};
	unsigned char first = (unsigned char) *at;
	size_t		n = first < 0x80 ? 1 : first < 0xc0 ? 0 : first < 0xe0 ? 2 :
		first < 0xf0 ? 3 : first < 0xf8 ? 4 : 0;
	unsigned	c = n > 1 ? first & (0x7fU >> n) : first;

	if (n == 0 || n > left)
		return 0;
	for (size_t i = 1; i < n; i++)
	{
		if (((unsigned char) at[i] & 0xc0) != 0x80)
			return 0;
		c = c << 6 | ((unsigned char) at[i] & 0x3f);
	}
	return c >= least[n] && (c < 0xd800 || c > 0xdfff) && c <= 0x10ffff ? n : 0;
}

/* The text is the bytes, with one replacement for each that is in no character. */
static void
check_text(const PQExpBufferData *text)
{
	size_t		done = 0;

	for (size_t i = 0; i < length; step++)
	{
		size_t		n = character(bytes + i, length - i);
		size_t		written = n > 0 ? n : strlen(REPLACEMENT);

		CHECK(done + written <= text->len);
		CHECK(memcmp(text->data + done, n > 0 ? bytes + i : REPLACEMENT, written) == 0);
		i += n > 0 ? n : 1;
		done += written;
	}
	CHECK(done == text->len);
}

/* The string says what the text is, with nothing in it that must be escaped. */
static void
check_json(const PQExpBufferData *json, const PQExpBufferData *text)
{
	const char *c = json->data;

	CHECK(*c == '"');
	c++;
	for (size_t i = 0; i < text->len; i++)
	{
		unsigned	is = (unsigned char) *c;

		CHECK(is >= ' ' && is != '"');
		c++;
		if (is == '\\')
		{
			is = (unsigned char) *c++;
			CHECK(is == 'u' || is == '"' || is == '\\');
			if (is == 'u')
			{
				CHECK(sscanf(c, "%4x", &is) == 1);
				c += 4;
			}
		}
		CHECK(is == (unsigned char) text->data[i]);
	}
	CHECK(strcmp(c, "\"") == 0);
}

static void
run_program(void)
{
	PQExpBufferData text;
	PQExpBufferData json;
	char	   *exact;

	for (length = 0; input_left > 0 && length < KEPT; length++)
		bytes[length] = (char) take_byte(256);
	/* of just that size, for a sanitizer to see who reads behind it */
	exact = malloc(Max(length, 1));
	if (exact == NULL)
		abort();
	memcpy(exact, bytes, length);
	initPQExpBuffer(&text);
	initPQExpBuffer(&json);
	append_text(&text, exact, length);
	append_json(&json, exact, length);
	CHECK(!PQExpBufferBroken(&text) && !PQExpBufferBroken(&json));
	check_text(&text);
	check_json(&json, &text);
	termPQExpBuffer(&text);
	termPQExpBuffer(&json);
	free(exact);
}
