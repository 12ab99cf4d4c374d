// cases.mjs EXPRESSIONS SEED PART PARTS: random cron expressions, each in twenty
// time zones from a random time on, and the next times of each, one case a line:
//
//	expression, zone, after, times by our rules, times by cron-parser, rules
//
// with tabs between, and \N instead of times for an expression that is refused.
//
// What matches is found by cron-parser on a clock that never changes, UTC, and
// offsets by Intl, from its own data; only where our rules differ from those
// of cron-parser (doc/schedules.md) are they done here. Where the two times
// differ, rules names those that they may differ by: days (a field for days
// that begins with * and has a step does not restrict), gap, doubled.

import { CronExpressionParser } from 'cron-parser';

const [expressions, seed, part, parts] = process.argv.slice(2).map(Number);
const zones = ['UTC', 'Europe/Berlin', 'Europe/London', 'Europe/Athens', 'Africa/Cairo', 'Africa/Casablanca',
	'America/New_York', 'America/Los_Angeles', 'America/St_Johns', 'America/Santiago', 'America/Havana', 'America/Nuuk',
	'Asia/Kolkata', 'Asia/Kathmandu', 'Asia/Tokyo', 'Asia/Beirut',
	'Australia/Lord_Howe', 'Pacific/Auckland', 'Pacific/Chatham', 'Antarctica/Troll'];
const TIMES = 2;
const MINUTE = 60000;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
const FIRST = Date.UTC(2020, 0, 1);
const LAST = Date.UTC(2036, 0, 1);

// Each expression has random numbers of its own, so that a case is the same
// however many processes share the work (mulberry32).
let state;
function random(limit)
{
	state = (state + 0x6D2B79F5) | 0;
	let t = Math.imul(state ^ (state >>> 15), 1 | state);
	t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
	return ((t ^ (t >>> 14)) >>> 0) % limit;
}

// Time zones: the instants at which the offset changes, by bisection of weeks.

function offsetOf(format, time)
{
	const p = Object.fromEntries(format.formatToParts(time).map(x => [x.type, Number(x.value)]));

	return Date.UTC(p.year, p.month - 1, p.day, p.hour, p.minute, p.second) - time;
}

function periods(zone)
{
	const format = new Intl.DateTimeFormat('en-US', { timeZone: zone, hourCycle: 'h23', year: 'numeric', month: 'numeric',
		day: 'numeric', hour: 'numeric', minute: 'numeric', second: 'numeric' });
	const result = [{ start: -Infinity, offset: offsetOf(format, FIRST - 400 * DAY) }];

	// so far that no expression is due later, but for those of leap days
	for (let day = FIRST - 399 * DAY; day < LAST + 45 * 366 * DAY; day += 7 * DAY)
	{
		const offset = offsetOf(format, day);
		let low = day - 7 * DAY;
		let high = day;

		if (offset === result.at(-1).offset)
			continue;
		while (high - low > 1000)
		{
			const middle = Math.floor((low + high) / 2000) * 1000;

			if (offsetOf(format, middle) === offset)
				high = middle;
			else
				low = middle;
		}
		result.push({ start: high, offset });
	}
	return result;
}

const zonePeriods = Object.fromEntries(zones.map(zone => [zone, periods(zone)]));

// The last period that begins at or before a time, or that the local time is in.
function periodAt(all, time)
{
	let low = 0;
	let high = all.length;

	while (high - low > 1)
	{
		const middle = (low + high) >> 1;

		if (all[middle].start <= time)
			low = middle;
		else
			high = middle;
	}
	return low;
}

// When a local time is due: none, one or two instants.
function instants(all, local, everyHour)
{
	const at = periodAt(all, local);
	const found = [];

	for (let i = Math.max(0, at - 3); i < Math.min(all.length, at + 4); i++)
	{
		const time = local - all[i].offset;
		const end = i + 1 < all.length ? all[i + 1].start : Infinity;

		if (time >= all[i].start && time < end)
			found.push(time);
		if (!everyHour && i + 1 < all.length && time >= end && local < end + all[i + 1].offset)
			found.push(end);
	}
	return everyHour ? found : found.slice(0, 1);
}

// Expressions.

const limits = [[0, 59], [0, 23], [1, 31], [1, 12], [0, 7]];
const names = [[], [], [], ['', 'jan', 'feb', 'mar', 'apr', 'may', 'jun', 'jul', 'aug', 'sep', 'oct', 'nov', 'dec'],
	['sun', 'mon', 'tue', 'wed', 'thu', 'fri', 'sat']];

function value(field, v)
{
	const name = names[field][v];

	return name && random(3) === 0 ? (random(2) === 0 ? name : name.toUpperCase()) : String(v);
}

function item(field)
{
	const [low, high] = limits[field];
	const kind = random(10);
	let text;

	if (field === 2 && kind === 9)
		return 'L';
	if (kind < 5)
	{
		text = value(field, low + random(high - low + 1));
		return random(6) === 0 ? `${text}/${1 + random(high)}` : text;
	}
	if (kind < 7)
		return `*/${1 + random(high)}`;
	const a = low + random(high - low + 1);
	const b = low + random(high - low + 1);

	text = `${value(field, Math.min(a, b))}-${a === b && a === 0 ? '0' : Math.max(a, b)}`;
	return random(3) === 0 ? `${text}/${1 + random(high)}` : text;
}

function expression()
{
	const fields = [];

	for (let field = 0; field < 5; field++)
	{
		const items = [];

		if (random(field === 0 ? 8 : 3) === 0 || (field === 3 && random(2) === 0))
			items.push('*');
		else
			do
				items.push(item(field));
			while (random(4) === 0);
		fields.push(items.join(','));
	}
	return fields.join(' ');
}

// The times that an expression matches on a clock that does not change.
function clock(text)
{
	const fields = text.split(' ');
	const [minute, hour, day, month, weekday] = fields;
	const all = CronExpressionParser.parse(text).fields;
	const weekdays = new Set(all.dayOfWeek.values.map(x => Number(x) % 7));
	const bothStar = day[0] === '*' || weekday[0] === '*';
	let used = text;
	let filter = null;

	if (bothStar && day !== '*' && weekday !== '*')
	{
		used = [minute, hour, day, month, '*'].join(' ');
		filter = time => weekdays.has(new Date(time).getUTCDay());
	}
	else if (!bothStar && (weekdays.size === 7 || new Set(all.dayOfMonth.values.filter(x => x !== 'L')).size === 31))
		used = [minute, hour, '*', month, '*'].join(' ');
	else if (bothStar && day !== '*' && weekdays.size === 7)
		used = [minute, hour, day, month, '*'].join(' ');
	const cron = CronExpressionParser.parse(used, { tz: 'UTC' });

	return {
		everyHour: new Set(all.hour.values).size === 24,
		differs: used !== text,
		from: after =>
		{
			cron.reset(new Date(after));
			return () =>
			{
				for (;;)
				{
					const time = cron.next().getTime();

					if (!filter || filter(time))
						return time;
				}
			};
		}
	};
}

function byRules(when, all, after)
{
	const at = periodAt(all, after);
	// whatever is repeated later than this was not before
	const next = when.from(after + all[at].offset - 4 * HOUR);
	let due = [];

	for (;;)
	{
		const local = next();

		// no instant of a later local time is before this
		if (due.length >= TIMES && local - 4 * HOUR - all[periodAt(all, due[TIMES - 1])].offset > due[TIMES - 1])
			return due.slice(0, TIMES);
		if (local > LAST + 44 * 366 * DAY)
			throw new Error('too far');
		for (const time of instants(all, local, when.everyHour))
			if (time > after && !due.includes(time))
				due.push(time);
		due.sort((a, b) => a - b);
	}
}

function byParser(text, zone, after)
{
	const cron = CronExpressionParser.parse(text, { tz: zone, currentDate: new Date(after) });

	return Array.from({ length: TIMES }, () => cron.next().getTime());
}

function shown(times)
{
	return times ? `{${times.map(t => new Date(t).toISOString()).join(',')}}` : '\\N';
}

const lines = [];
for (let n = part; n < expressions; n += parts)
{
	state = (seed * 1000003 + n) | 0;
	for (let i = 0; i < 5; i++)
		random(2);
	let text;
	let when;

	do
	{
		text = expression();
		try
		{
			when = clock(text);
		}
		catch (e)
		{
			// a value that a list has twice, which we take
			if (/duplicate values/.test(e.message))
				when = undefined;
			else if (/Invalid explicit day of month/.test(e.message))
				when = null;
			else
				throw new Error(`${text}: ${e.message}`);
		}
	} while (when === undefined);
	for (const zone of zones)
	{
		const all = zonePeriods[zone];
		const changes = all.filter(p => p.start >= FIRST && p.start < LAST);
		let after = FIRST + random(16 * 366 * 24 * 60) * MINUTE;
		let rules = null;
		let parser = null;
		let mine = null;

		// half of them on the days when clocks change
		if (changes.length > 0 && random(2) === 0)
			after = changes[random(changes.length)].start + (random(36 * 60) - 30 * 60) * MINUTE;
		if (random(4) === 0)
			after += random(60) * 1000 + random(1000);
		if (when)
		{
			mine = byRules(when, all, after);
			try
			{
				parser = byParser(text, zone, after);
			}
			catch (e)
			{
				// it gives up on what is due in years only
				rules = /loop limit/i.test(e.message) ? 'loop limit' : `error: ${e.message}`;
			}
			if (parser && String(parser) !== String(mine))
			{
				const until = Math.max(parser[TIMES - 1], mine[TIMES - 1]) + 4 * HOUR;
				const changed = all.filter((p, i) => i > 0 && p.start > after - 4 * HOUR && p.start <= until)
					.map(p => p.offset > all[all.indexOf(p) - 1].offset ? 'gap' : 'doubled');

				rules = [...new Set([...(when.differs ? ['days'] : []), ...changed])].sort().join(' ') || 'none';
			}
		}
		lines.push([text, zone, new Date(after).toISOString(), shown(mine), shown(parser), rules ?? ''].join('\t'));
	}
	if (lines.length >= 10000 || n + parts >= expressions)
		process.stdout.write(lines.splice(0).map(l => l + '\n').join(''));
}
