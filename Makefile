# queue_service: build, install and test.
#
#   make, make install      build and install with PGXS (PG_CONFIG=... to choose)
#   make installcheck       regression and isolation tests, on a running server
#   make check              everything, on private servers; needs no set-up
#   make check-regress      one layer of it, as are check-isolation, check-tap
#                           and check-compilers; TESTS="name name" picks tests
#   make check-assert       the same and more, on a PostgreSQL with assertions,
#                           which it builds the first time
#   make check-asan         the suites with AddressSanitizer and UndefinedBehaviorSanitizer,
#                           on PostgreSQL 17; needs root
#   make check-valgrind     the regression and some TAP tests under valgrind's memcheck
#   make check-static       clang-tidy and cppcheck
#   make coverage           which lines of src/ the tests run. Of all of these see
#                           doc/testing.md
#   make check-report       reports in Chromium, and how long they and a scrape of
#                           metrics take: REPORT_TENANTS (10000), REPORT_JOBS
#                           (5000000); see report/run
#   make check-versions     the test suites on PostgreSQL 15, 17 and 18 (VERSIONS),
#                           each in a Debian of its own that has it; needs root
#   make check-upgrade      pg_upgrade from PostgreSQL 15 to 17 (UPGRADES), which are
#                           installed side by side in a Debian; needs root
#   make check-cron         cron expressions against cron-parser, from npm:
#                           CRON_EXPRESSIONS (20000) in twenty time zones
#   make check-faults       what is lost when a server crashes, fails over, has a full
#                           disk, and so on: see doc/reliability.md. TESTS="1 4"
#                           picks faults
#   make fuzz               the modules that need no server, each for FUZZ_SECONDS
#   make bench              measure it; bench-flat and bench-endurance show how
#                           flat it stays, bench-wakeup how soon a worker has a
#                           job, bench-limited what a limit costs a queue,
#                           bench-limits what it costs to ask one,
#                           bench-fair whom claims for all tenants serve,
#                           bench-peers how other queues do, bench-purge what
#                           it costs to delete finished jobs, bench-tokens
#                           draws a bucket over time, bench-worker what
#                           queue_worker costs beyond its commands; see
#                           bench/RESULTS.md
#   make stress             clients against each other, crashes and disturbances,
#                           for STRESS_SECONDS; see stress/README.md
#   make stress-limits      clients against a limited queue, for STRESS_SECONDS
#   make stress-groups      clients against groups of jobs, for STRESS_SECONDS
#   make check-limits       what 16 clients are granted of a service, for
#                           LIMITS_SECONDS (60)
#   make cells              tenants on CELLS_NODES (3) nodes behind a router, that
#                           are moved under load; bench-cells says what that costs
#   make deb, check-deb     a Debian package; install it in a clean system, and
#                           have the quick start's jobs done there
#   make dist               a zip of the last commit, for PGXN
#   make quickstart, psql   see it work, play with it

MODULE_big = queue_service
EXTENSION = queue_service
DATA = $(sort $(wildcard queue_service--*.sql))
PGFILEDESC = "queue_service - multi-tenant job queue"
OBJS = $(patsubst %.c,%.o,$(sort $(wildcard src/*.c)))

REGRESS = $(patsubst sql/%.sql,%,$(sort $(wildcard sql/*.sql)))
ISOLATION = $(patsubst specs/%.spec,%,$(sort $(wildcard specs/*.spec)))
EXTRA_CLEAN = src/*.d worker/*.[do] queue_worker $(realpath tmp_check) tmp_check
WORKER_OBJS = $(patsubst %.c,%.o,$(sort $(wildcard worker/*.c)))

PG_CONFIG ?= pg_config

# PostgreSQL's headers as system headers: -Wextra is for our own code.
PG_CPPFLAGS = -isystem $(shell $(PG_CONFIG) --includedir-server)
# PGXS tracks no headers; -MD also notes PostgreSQL's own, so that a new minor
# release rebuilds.
PG_CFLAGS = -Wall -Wextra -MD -MP
# clang reports unused parameters of PostgreSQL's macros as ours (gcc, which
# does not, looks after the rest), and does not know all flags in PGXS.
ifneq ($(findstring clang,$(CC)),)
PG_CFLAGS += -Wno-unused-parameter -Wno-unknown-warning-option \
	-Wno-ignored-optimization-argument
endif

# Bitcode serves to inline functions into JIT-compiled expressions. None of
# ours is cheap enough to gain, and it would need the very clang that
# PostgreSQL was built with.
override with_llvm = no

# These run scripts that find or install what they need, so they work where
# PGXS is not installed yet. PGXS also brings a "check" of its own.
own_goals = check check-regress check-isolation check-tap check-compilers \
	check-assert check-asan check-valgrind check-static coverage check-versions check-upgrade check-cron check-faults check-limits check-report check-mutants fuzz \
	bench bench-flat bench-endurance \
	bench-wakeup bench-limited bench-limits bench-fair bench-peers bench-purge bench-tokens bench-worker stress \
	stress-limits stress-groups cells bench-cells deb check-deb dist quickstart psql

ifeq ($(filter $(own_goals),$(MAKECMDGOALS)),)

PGXS := $(shell $(PG_CONFIG) --pgxs)
include $(PGXS)
-include $(OBJS:.o=.d) $(WORKER_OBJS:.o=.d)
$(OBJS) $(WORKER_OBJS): Makefile

# The program queue_worker, beside the extension. PGXS makes one or the other.
# Tests build the extension alone, in copies without the program's sources.
ifneq ($(WORKER_OBJS),)
version := $(shell sed -n "s/^default_version = '\(.*\)'/\1/p" queue_service.control)
$(WORKER_OBJS): override CPPFLAGS += -isystem $(includedir) \
	-isystem $(includedir_internal) -DVERSION='"$(version)"'
queue_worker: $(WORKER_OBJS)
	$(CC) $(CFLAGS) $^ -L$(pkglibdir) -L$(libdir) -lpgcommon -lpgport $(libpq) -lm \
		$(LDFLAGS) $(LDFLAGS_EX) -o $@
all: queue_worker
install: install-worker
install-worker: queue_worker
	$(MKDIR_P) '$(DESTDIR)$(bindir)' '$(DESTDIR)$(mandir)/man1'
	$(INSTALL_PROGRAM) queue_worker '$(DESTDIR)$(bindir)/queue_worker'
	$(INSTALL_DATA) doc/queue_worker.1 '$(DESTDIR)$(mandir)/man1/queue_worker.1'
uninstall: uninstall-worker
uninstall-worker:
	rm -f '$(DESTDIR)$(bindir)/queue_worker' '$(DESTDIR)$(mandir)/man1/queue_worker.1'
.PHONY: install-worker uninstall-worker
endif

else

export PG_CONFIG
pgxs_goals = $(filter-out $(own_goals),$(MAKECMDGOALS))
.PHONY: $(own_goals) $(pgxs_goals)
.NOTPARALLEL:

$(pgxs_goals):
	+$(MAKE) $@

check:
	@scripts/check all $(TESTS)
check-regress check-isolation check-tap check-compilers:
	@scripts/check $(@:check-%=%) $(TESTS)
check-assert:
	@scripts/check-assert all $(TESTS)
check-asan check-valgrind coverage:
	@scripts/$@ $(if $(TESTS),all $(TESTS))
check-static:
	@scripts/$@
check-versions:
	@scripts/check-versions $(SUITES)
check-upgrade:
	@scripts/check-upgrade
check-limits:
	@LIMITS_SECONDS=$${LIMITS_SECONDS:-60} scripts/check tap 063_limits
check-report:
	@report/run
check-faults:
	@scripts/check-faults $(TESTS)
check-cron:
	@fuzz/cron_parser/run
check-mutants:
	@mutants/run $(TESTS)
fuzz:
	@fuzz/run
bench:
	@bench/run slices
bench-flat bench-endurance bench-wakeup bench-limited bench-limits bench-fair bench-peers bench-purge bench-tokens bench-worker:
	@bench/run $(@:bench-%=%)
stress:
	@stress/run
stress-limits stress-groups:
	@stress/$(@:stress-%=%)/run
bench-cells:
	@scripts/cells bench
cells deb check-deb dist quickstart psql:
	@scripts/$@

endif
