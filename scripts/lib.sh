# Shared by the scripts here: packages, build, private PostgreSQL tree, server.
# To be sourced by bash with `set -euo pipefail`.
#
# Everything is installed and run in $QS_BUILD (default: tmp_check/ here).
# PostgreSQL refuses to run as root, so for root the servers and test drivers
# run as user postgres; the build itself runs as the caller.

# shellcheck shell=bash

src=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
QS_BUILD=${QS_BUILD:-$src/tmp_check}
: "${PG_CONFIG:=pg_config}"

die()
{
	printf '%s: %s\n' "${0##*/}" "$*" >&2
	exit 1
}

# Run a command as the user that owns the servers, in a folder it can enter.
as_pg()
(
	cd /
	if [ "$(id -u)" = 0 ]
	then
		exec runuser -u postgres -- "$@"
	else
		exec "$@"
	fi
)

# Are these there: compiler, make, a complete PostgreSQL (the server's package has
# all of PGXS but the headers), Perl for TAP?
have_tools()
{
	command -v cc >/dev/null &&
		command -v make >/dev/null &&
		command -v "$PG_CONFIG" >/dev/null &&
		[ -f "$("$PG_CONFIG" --pgxs)" ] &&
		[ -f "$("$PG_CONFIG" --includedir-server)/postgres.h" ] &&
		[ -x "$("$PG_CONFIG" --bindir)/postgres" ] &&
		perl -MIPC::Run -MTest::More -e 1 2>/dev/null
}

# Install what is missing, from the distribution's packages.
need_tools()
{
	local root=() version dropin

	have_tools && return
	command -v apt-get >/dev/null ||
		die "needs a C compiler, make, PostgreSQL 15 or later with its server" \
			"headers, and Perl with IPC::Run"
	if [ "$(id -u)" != 0 ]
	then
		root=(sudo)
		command -v sudo >/dev/null ||
			die "packages are missing; as root: apt-get install gcc libc6-dev" \
				"make postgresql postgresql-server-dev-all libipc-run-perl"
	fi
	echo "Installing the packages that are missing ..."
	"${root[@]}" apt-get update -qq
	version=$(apt-cache depends postgresql |
		sed -n 's/.*Depends: postgresql-\([0-9]*\)$/\1/p')
	[ -n "$version" ] || die "no PostgreSQL package found"

	# The package would create a cluster and start it on port 5432.
	dropin=/etc/postgresql-common/createcluster.d/queue_service.conf
	"${root[@]}" mkdir -p "${dropin%/*}"
	echo 'create_main_cluster = false' | "${root[@]}" tee $dropin >/dev/null
	"${root[@]}" env DEBIAN_FRONTEND=noninteractive \
		apt-get install -y -qq --no-install-recommends \
		gcc libc6-dev make "postgresql-$version" \
		"postgresql-server-dev-$version" libipc-run-perl </dev/null ||
		{ "${root[@]}" rm -f $dropin; die "apt-get install failed"; }
	"${root[@]}" rm -f $dropin
	hash -r
	have_tools || die "packages are installed, but PostgreSQL was not found"
}

# Runs as root.
as_root()
{
	if [ "$(id -u)" = 0 ]
	then
		"$@"
	else
		sudo "$@"
	fi
}

# need_packages PACKAGE ...: install those that are missing, without starting the
# services that they bring, which are none of our business.
need_packages()
{
	local package missing=() policy=/usr/sbin/policy-rc.d installed=yes

	for package
	do
		[[ $(dpkg-query -W -f '${db:Status-Abbrev}' "$package" 2>/dev/null) = ii* ]] ||
			missing+=("$package")
	done
	[ ${#missing[@]} -gt 0 ] || return 0
	echo "Installing ${missing[*]} ..."
	if [ -e $policy ]
	then
		policy=
	else
		printf '#!/bin/sh\nexit 101\n' | as_root tee $policy >/dev/null
		as_root chmod +x $policy
	fi
	as_root apt-get update -qq || :
	as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
		--no-install-recommends "${missing[@]}" </dev/null || installed=no
	[ -z "$policy" ] || as_root rm -f $policy
	hash -r
	[ $installed = yes ]
}

# install_if_allowed PACKAGE ...: what only some tests need, which are left out else.
install_if_allowed()
{
	command -v apt-get >/dev/null || return 0
	[ "$(id -u)" = 0 ] || sudo -n true 2>/dev/null || return 0
	need_packages "$@" || echo "$* could not be installed"
}

# need_program NAME PACKAGE ...: install a program that not everybody needs, if it
# can be had.
need_program()
{
	! command -v "$1" >/dev/null && [ ! -x "/usr/sbin/$1" ] || return 0
	install_if_allowed "${@:2}"
}

# need_drivers: install what the examples' clients need, if it can be had:
# psycopg, and Node with pg, whose folder QS_NODE_MODULES then names. Clients
# without their driver are left out of the test.
need_drivers()
{
	local dir=$QS_BUILD/drivers

	/usr/bin/python3 -c 'import psycopg' 2>/dev/null ||
		install_if_allowed python3-psycopg
	need_program npm nodejs npm
	if command -v npm >/dev/null && [ ! -d "$dir/node_modules/pg" ]
	then
		npm install --prefix "$dir" --ignore-scripts --no-package-lock --no-audit \
			--no-fund --loglevel=error pg@8 || echo "pg could not be installed"
	fi
	[ ! -d "$dir/node_modules/pg" ] || export QS_NODE_MODULES=$dir/node_modules
}

# find_faketime: QS_FAKETIME tells tests where the library is that sets a program's
# clock; empty if it is not installed.
find_faketime()
{
	need_program faketime faketime
	QS_FAKETIME=$(find /usr/lib /usr/local/lib -name libfaketime.so.1 2>/dev/null | head -n 1)
	export QS_FAKETIME
}

# mount_small_disks: two small file systems for the test that fills them, whose
# folder QS_SMALL_DISKS names. Not mounted if that is not allowed.
mount_small_disks()
{
	local disk dir=$QS_BUILD/small

	[ "$(id -u)" = 0 ] || return 0
	for disk in data wal
	do
		mkdir -p "$dir/$disk"
		mount -t tmpfs -o size=256m,mode=0700,uid="$(id -u postgres)" \
			queue_service "$dir/$disk" 2>/dev/null || return 0
	done
	QS_SMALL_DISKS=$dir
	export QS_SMALL_DISKS
}

unmount_small_disks()
{
	local disk

	for disk in data wal
	do
		! mountpoint -q "$QS_BUILD/small/$disk" || umount -l "$QS_BUILD/small/$disk"
	done
}

# A folder that outlasts checkouts, for what takes long to build.
cache_dir()
{
	local cache

	if [ "$(id -u)" = 0 ]
	then
		cache=${XDG_CACHE_HOME:-/var/cache}/queue_service
	else
		cache=${XDG_CACHE_HOME:-$HOME/.cache}/queue_service
	fi
	mkdir -p "$cache"
	echo "$cache"
}

# copy_checkout FOLDER: make it a copy of this checkout without what was built;
# what its tests left there before stays.
copy_checkout()
{
	mkdir -p "$1"
	find "$1" -mindepth 1 -maxdepth 1 ! -name 'tmp_check*' -exec rm -rf {} +
	tar -C "$src" --exclude=./.git --exclude='./tmp_check*' --exclude='*.[od]' \
		--exclude='*.so' --exclude=./queue_worker -cf - . | tar -C "$1" -xf -
}

# suite CMD ...: run it and add the counts of its last line to $passed and $failed.
suite()
{
	local output counts p f

	output=$(mktemp)
	"$@" 2>&1 | tee "$output" || :
	counts=$(tail -n 1 "$output" |
		sed -n 's/^\([0-9]*\) passed, \([0-9]*\) failed.*/\1 \2/p')
	rm -f "$output"
	# It may have ended before it could count.
	read -r p f <<<"${counts:-0 1}"
	passed=$((passed + p))
	failed=$((failed + f))
}

# no_reports WHAT FOLDER: count a failed test if processes left reports there, whose
# beginnings are shown, and a passed one if not.
no_reports()
{
	local reports

	mapfile -t reports < <(find "$2" -type f -size +0)
	if [ ${#reports[@]} = 0 ]
	then
		echo "no report of $1"
		passed=$((passed + 1))
	else
		head -v -n 60 "${reports[@]:0:5}"
		echo "${#reports[@]} processes made reports of $1, in $2"
		failed=$((failed + 1))
	fi
}

# Make $QS_BUILD, where the user that owns the servers can work. If that user
# cannot reach this checkout (in a home that is closed to others, say),
# tmp_check is a link to a folder that it can.
make_build_dir()
{
	if [ ! -e "$QS_BUILD" ]
	then
		if as_pg test -x "$(dirname "$QS_BUILD")"
		then
			mkdir -p "$QS_BUILD"
		else
			ln -sfn "$(mktemp -d /var/tmp/queue_service.XXXXXX)" "$QS_BUILD"
		fi
	fi
	QS_BUILD=$(cd "$QS_BUILD" && pwd -P)
	if [ "$(id -u)" = 0 ]
	then
		chown postgres: "$QS_BUILD"
	fi
}

# The servers of the private tree run under $QS_UNDER, what a shell takes before a
# command; not what initdb starts. There is no way back for that tree. Their name is
# that of this script, by which pg_ctl starts them again, so a shell comes between.
run_servers_under()
{
	[ -e "$bindir/postgres.bin" ] || mv "$bindir/postgres" "$bindir/postgres.bin"
	cat >"$bindir/postgres" <<-END
		#!/bin/sh
		case \$1 in
			--boot | --single | --check | -V) exec "\${0%/*}/postgres.bin" "\$@" ;;
		esac
		exec $QS_UNDER bash -c 'exec -a "\$0" "\$0.bin" "\$@"' "\$0" "\$@"
	END
	chmod +x "$bindir/postgres"
}

# Build, and install in the private tree, which repeats PostgreSQL's own paths
# under $QS_BUILD/root. COPT holds further flags for the compiler.
#
# PostgreSQL finds its files relative to where its binary really is, so bin/
# holds copies; lib/ and share/ are folders of links, beside which the
# extension's files go.
build()
{
	local dir tree

	make_build_dir
	# Once the private tree leads PATH, the bare name would mean its pg_config.
	PG_CONFIG=$(command -v "$PG_CONFIG")
	export PG_CONFIG
	exec 9>"$QS_BUILD/lock"
	flock 9
	tree=$QS_BUILD/root
	bindir=$tree$("$PG_CONFIG" --bindir)
	# shellcheck disable=SC2034 # for scripts/check
	pgxs_src=$(dirname "$(dirname "$("$PG_CONFIG" --pgxs)")")
	if [ "$(cat "$QS_BUILD/version" 2>/dev/null)" != "$("$PG_CONFIG" --version)" ]
	then
		rm -rf "$tree" "$QS_BUILD/template"
		mkdir -p "$bindir"
		cp -a "$("$PG_CONFIG" --bindir)/." "$bindir"
		for dir in "$("$PG_CONFIG" --pkglibdir)" "$("$PG_CONFIG" --sharedir)"
		do
			mkdir -p "$tree$dir"
			cp -as "$dir/." "$tree$dir"
		done
		as_pg "$bindir/initdb" -D "$QS_BUILD/template" -U postgres -A trust \
			-E UTF8 --no-locale --no-sync --no-instructions \
			>"$QS_BUILD/initdb.log" || die "initdb failed, see $QS_BUILD/initdb.log"
		"$PG_CONFIG" --version >"$QS_BUILD/version"
	fi
	[ -z "${QS_UNDER:-}" ] || run_servers_under
	make -s -j"$(nproc)" -C "$src" PG_CONFIG="$PG_CONFIG" all >&2
	make -s -C "$src" PG_CONFIG="$PG_CONFIG" DESTDIR="$tree" install >&2
	exec 9>&-
	export PATH="$bindir:$PATH"
}

# The same with places where a test can stop a session (src/fault.h), in a tree
# of its own; QS_FAULTS tells tests where that is.
build_with_faults()
{
	local dir=$QS_BUILD/faults

	mkdir -p "$dir/source"
	rm -rf "$dir/root" "$dir/source/src"
	cp -al "$QS_BUILD/root" "$dir/root"
	cp -Rpu "$src/Makefile" "$src/queue_service.control" \
		"$src"/queue_service--*.sql "$src/src" "$dir/source"
	rm -f "$dir"/source/src/*.{o,d,gcda,gcno} "$dir"/source/*.so
	make -s -j"$(nproc)" -C "$dir/source" PG_CONFIG="$PG_CONFIG" \
		COPT="${COPT:-} -DQS_FAULT_POINTS" all >&2
	make -s -C "$dir/source" PG_CONFIG="$PG_CONFIG" DESTDIR="$dir/root" install >&2
	QS_FAULTS=$dir/root$(dirname "$("$PG_CONFIG" --bindir)")
	export QS_FAULTS
}

# start_server NAME: start a private server and point libpq at it; the log goes
# to $QS_BUILD/log/NAME.log. It listens on a socket in a folder of its own
# only, so its port number cannot collide. Preloads the library unless
# QS_PRELOAD=no; QS_CONF holds further lines for postgresql.conf. QS_STOP=fast lets
# its processes end in order, where they have something to write then.
start_server()
{
	local preload=queue_service

	[ "${QS_PRELOAD:-yes}" = yes ] || preload=
	trap stop_server EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM HUP
	# The path of a socket may have 107 bytes at most.
	sockets=$(as_pg mktemp -d "/tmp/qs.XXXXXX")
	data=$(as_pg mktemp -d "$QS_BUILD/data.XXXXXX")
	as_pg mkdir -p "$QS_BUILD/log"
	as_pg cp -a "$QS_BUILD/template/." "$data"
	as_pg tee -a "$data/postgresql.conf" >/dev/null <<-END
		listen_addresses = ''
		unix_socket_directories = '$sockets'
		port = 54321
		shared_preload_libraries = '$preload'
		max_connections = 100
		max_prepared_transactions = 20
		log_line_prefix = '%m [%p] %q%a '
		${QS_CONF:-}
	END
	export PGHOST=$sockets PGPORT=54321 PGUSER=postgres PGDATABASE=postgres
	unset PGSERVICE PGOPTIONS PGPASSFILE PGHOSTADDR
	as_pg "$bindir/pg_ctl" -s -w -D "$data" -l "$QS_BUILD/log/$1.log" start ||
		{ tail -n 20 "$QS_BUILD/log/$1.log" >&2; die "server did not start"; }
}

# Create a database with the extension in it and make it the default.
create_database()
{
	psql -X -q -v ON_ERROR_STOP=1 -c 'CREATE DATABASE queue_service'
	export PGDATABASE=queue_service
	psql -X -q -v ON_ERROR_STOP=1 -c 'CREATE EXTENSION queue_service'
}

stop_server()
{
	trap '' INT TERM HUP
	if [ -f "${data:-}/postmaster.pid" ]
	then
		as_pg "$bindir/pg_ctl" -s -w -D "$data" -m "${QS_STOP:-immediate}" stop || :
	fi
	rm -rf "${data:-}" "${sockets:-}"
}
