/*
 * figures.h
 *	  Numbers as people read them, in memory of the current context.
 */
#ifndef QS_FIGURES_H
#define QS_FIGURES_H

extern const char *qs_number_text(double number);
extern const char *qs_count_text(int64 count);
extern const char *qs_seconds_text(double seconds);
extern const char *qs_duration_text(int64 microseconds);

#endif							/* QS_FIGURES_H */
