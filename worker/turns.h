/*
 * turns.h
 *	  The worker's turns: claims jobs, lets handlers run, says what became of them.
 */
#ifndef TURNS_H
#define TURNS_H

#include "options.h"

extern int	work(const Options *options);

#endif							/* TURNS_H */
