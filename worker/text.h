/*
 * text.h
 *	  Bytes of handlers as text that PostgreSQL takes.
 */
#ifndef TEXT_H
#define TEXT_H

#include "pqexpbuffer.h"

extern void append_text(PQExpBuffer buffer, const char *bytes, size_t length);
extern void append_json(PQExpBuffer buffer, const char *bytes, size_t length);

#endif							/* TEXT_H */
