/*
 * text.c
 *	  Bytes of handlers as text that PostgreSQL takes.
 *
 * What is no UTF-8 becomes U+FFFD, as does a zero byte, which PostgreSQL has in
 * no text.
 */
#include "postgres_fe.h"

#include "text.h"

#define REPLACEMENT "\xEF\xBF\xBD"

/*
 * The length of the well-formed character at the beginning, of the Unicode
 * standard's table 3-7; 0 if there is none.
 */
static size_t
character(const unsigned char *c, size_t length)
{
	static const struct
	{
		unsigned char first[2];
		unsigned char second[2];
		size_t		length;
	}			forms[] = {
		{{0xC2, 0xDF}, {0x80, 0xBF}, 2},
		{{0xE0, 0xE0}, {0xA0, 0xBF}, 3},
		{{0xE1, 0xEC}, {0x80, 0xBF}, 3},
		{{0xED, 0xED}, {0x80, 0x9F}, 3},
		{{0xEE, 0xEF}, {0x80, 0xBF}, 3},
		{{0xF0, 0xF0}, {0x90, 0xBF}, 4},
		{{0xF1, 0xF3}, {0x80, 0xBF}, 4},
		{{0xF4, 0xF4}, {0x80, 0x8F}, 4}
	};

	if (c[0] < 0x80)
		return c[0] != 0;
	for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++)
	{
		if (c[0] < forms[i].first[0] || c[0] > forms[i].first[1] ||
			length < forms[i].length ||
			c[1] < forms[i].second[0] || c[1] > forms[i].second[1])
			continue;
		for (size_t n = 2; n < forms[i].length; n++)
			if ((c[n] & 0xC0) != 0x80)
				return 0;
		return forms[i].length;
	}
	return 0;
}

/* Appends bytes as text. */
void
append_text(PQExpBuffer buffer, const char *bytes, size_t length)
{
	while (length > 0)
	{
		size_t		n = character((const unsigned char *) bytes, length);

		if (n == 0)
			appendPQExpBufferStr(buffer, REPLACEMENT);
		else
			appendBinaryPQExpBuffer(buffer, bytes, n);
		n += n == 0;
		bytes += n;
		length -= n;
	}
}

/* Appends bytes as a string of JSON, with its quotes. */
void
append_json(PQExpBuffer buffer, const char *bytes, size_t length)
{
	PQExpBufferData text;

	initPQExpBuffer(&text);
	append_text(&text, bytes, length);
	appendPQExpBufferChar(buffer, '"');
	for (size_t i = 0; i < text.len; i++)
	{
		unsigned char c = text.data[i];

		if (c == '"' || c == '\\')
			appendPQExpBufferChar(buffer, '\\');
		if (c < ' ')
			appendPQExpBuffer(buffer, "\\u%04x", c);
		else
			appendPQExpBufferChar(buffer, c);
	}
	appendPQExpBufferChar(buffer, '"');
	termPQExpBuffer(&text);
}
