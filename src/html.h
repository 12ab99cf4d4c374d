/*
 * html.h
 *	  Writes HTML that is well-formed XML too, and plain ASCII.
 *
 * Invariants:
 *	 escaped:	All text that was not written here goes through %s of qs_html(),
 *				which leaves no character that means anything to a browser, and
 *				none that is not shown: of a name, an error or a payload nothing
 *				can become a tag, an attribute or a script, or turn the direction
 *				of what follows.
 *	 ASCII:		What is not ASCII is written as its number. So the page is the
 *				same whatever the encodings of database, client and file are.
 */
#ifndef QS_HTML_H
#define QS_HTML_H

#include "lib/stringinfo.h"

/* not pg_attribute_printf(), which names the server's compiler's formats */
extern void qs_html(StringInfo out, const char *format,...)
	__attribute__((format(printf, 2, 3)));

#endif							/* QS_HTML_H */
