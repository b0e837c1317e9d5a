"""The gap ledger ``k2.gaps``, and what bronze says about ids."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from airflow_provider_k2.gaps.model import Gap, Ids, Ranges, State
from airflow_provider_k2.windows import SECOND

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from airflow_provider_k2.hooks.clickhouse import ClickHouseHook

DAY = 86_400 * SECOND
KEPT = 6 * DAY
"""Age up to which bronze surely holds a trade, microseconds: it keeps them for seven days."""

NO_ID = 1_230_940_800_000_000_000
"""Sequence numbers from here on are made of a time (Kraken v1): they are no ids."""

OTHER_NUMBERING = 10_000_000
"""A hole of more ids than this is no gap: the exchange counts anew, or the symbol was not fed for months."""

_ROWS = 200  # in one insert
_COLUMNS = (
    "exchange, symbol, canonical_symbol, first_id, last_id, toUnixTimestamp64Micro(after_time), "
    "toUnixTimestamp64Micro(before_time), state, toUnixTimestamp64Micro(found_at), toUnixTimestamp64Micro(tried_at), "
    "tries, note"
)
# The trades that have arrived lately, and of each symbol the one before them.
_HOLES = """
SELECT symbol, previous + 1, sequence_number - 1, toUnixTimestamp64Micro(previous_time), toUnixTimestamp64Micro(moment)
FROM
(
    SELECT
        symbol,
        sequence_number,
        exchange_timestamp AS moment,
        arrived,
        lagInFrame(sequence_number) OVER w AS previous,
        lagInFrame(exchange_timestamp) OVER w AS previous_time
    FROM
    (
        WITH lately AS
        (
            SELECT symbol, min(sequence_number) AS first
            FROM k2.bronze_trades_{exchange}
            WHERE ingestion_timestamp >= fromUnixTimestamp64Micro(%(since)s, 'UTC') AND sequence_number < %(no_id)s
            GROUP BY symbol
        )
        SELECT symbol, sequence_number, exchange_timestamp, ingestion_timestamp AS arrived
        FROM k2.bronze_trades_{exchange}
        WHERE ingestion_timestamp >= fromUnixTimestamp64Micro(%(since)s, 'UTC') AND sequence_number < %(no_id)s
        UNION ALL
        SELECT
            b.symbol,
            max(b.sequence_number),
            argMax(b.exchange_timestamp, b.sequence_number),
            min(b.ingestion_timestamp)
        FROM k2.bronze_trades_{exchange} AS b
        INNER JOIN lately AS l ON l.symbol = b.symbol
        WHERE b.sequence_number < l.first
        GROUP BY b.symbol
    )
    WINDOW w AS (PARTITION BY symbol ORDER BY sequence_number ROWS BETWEEN 1 PRECEDING AND CURRENT ROW)
)
WHERE previous != 0 AND sequence_number > previous + 1
    AND arrived <= fromUnixTimestamp64Micro(%(settled)s, 'UTC')
    AND previous_time >= fromUnixTimestamp64Micro(%(kept)s, 'UTC')
ORDER BY symbol, previous
"""
_RUNS = """
SELECT symbol, min(sequence_number), max(sequence_number)
FROM
(
    SELECT
        symbol,
        sequence_number,
        sequence_number - row_number() OVER (PARTITION BY symbol ORDER BY sequence_number) AS run
    FROM (SELECT DISTINCT symbol, sequence_number FROM k2.bronze_trades_{exchange} WHERE {where})
)
GROUP BY symbol, run
"""


class GapLedger:
    """Gaps of one exchange.

    :param clickhouse: the warm tier.
    :param exchange: a name that :func:`.find_venue` knows.
    """

    def __init__(self, clickhouse: ClickHouseHook, exchange: str) -> None:
        self._clickhouse, self.exchange = clickhouse, exchange

    def read(self, *states: State) -> list[Gap]:
        """The gaps in some states, all if none is given; by symbol and id."""
        wanted = [state.value for state in states or State]
        rows = self._clickhouse.execute(
            f"SELECT {_COLUMNS} FROM k2.gaps FINAL WHERE exchange = %(exchange)s AND has(%(states)s, toString(state)) "
            "ORDER BY symbol, first_id, found_at",
            {"exchange": self.exchange, "states": wanted},
        )
        return [_gap(*row) for row in rows]

    def write(self, gaps: Sequence[Gap]) -> None:
        """Add gaps, or replace those that were found at the same time and begin with the same id."""
        for start in range(0, len(gaps), _ROWS):
            rows, texts = [], {"exchange": self.exchange}
            for number, gap in enumerate(gaps[start : start + _ROWS]):
                texts |= {f"s{number}": gap.symbol, f"c{number}": gap.canonical, f"n{number}": gap.note}
                rows.append(
                    f"(%(exchange)s, %(s{number})s, {gap.ids.first}, {gap.ids.last}, %(c{number})s, "
                    f"{_time(gap.after)}, {_time(gap.before)}, '{gap.state.value}', {_time(gap.found)}, "
                    f"{_time(gap.tried)}, {gap.tries}, %(n{number})s, toUnixTimestamp64Micro(now64(6)))"
                )
            self._clickhouse.execute(f"INSERT INTO k2.gaps SELECT untuple(arrayJoin([{', '.join(rows)}]))", texts)

    def holes(self, since: int, settled: int, kept: int) -> list[tuple[str, Ids, int, int]]:
        """Ids that no trade has that arrived since a time, between two that have.

        :param since: of arrival, microseconds since 1970.
        :param settled: a hole whose upper end arrived after this may still be filled by a trade on its way.
        :param kept: holes that begin with an older trade are left alone: bronze may have dropped what was in them.
        :returns: symbol, ids, time of the trade before and of the one after them.
        """
        rows = self._clickhouse.execute(
            _HOLES.format(exchange=self.exchange), {"since": since, "settled": settled, "kept": kept, "no_id": NO_ID}
        )
        return [(row[0], Ids(row[1], row[2]), row[3], row[4]) for row in rows]

    def held(self, gaps: Iterable[Gap]) -> dict[str, Ranges]:
        """What bronze holds between the first and the last id of all gaps of a symbol.

        :returns: ranges of ids that are there, by symbol.
        """
        spans: dict[str, Ids] = {}
        for gap in gaps:
            span = spans.get(gap.symbol, gap.ids)
            spans[gap.symbol] = Ids(min(span.first, gap.ids.first), max(span.last, gap.ids.last))
        if not spans:
            return {}
        where = " OR ".join(
            f"(symbol = %(s{number})s AND sequence_number BETWEEN {ids.first} AND {ids.last})"
            for number, ids in enumerate(spans.values())
        )
        names = {f"s{number}": symbol for number, symbol in enumerate(spans)}
        found: dict[str, list[Ids]] = defaultdict(list)
        for symbol, first, last in self._clickhouse.execute(_RUNS.format(exchange=self.exchange, where=where), names):
            found[symbol].append(Ids(first, last))
        return {symbol: Ranges(ranges) for symbol, ranges in found.items()}

    def canonical(self, symbols: Iterable[str]) -> dict[str, str]:
        """Names of symbols as silver writes them."""
        rows = self._clickhouse.execute(
            "SELECT symbol, any(canonical_symbol) FROM k2.silver_trades WHERE exchange = %(exchange)s "
            "AND has(%(symbols)s, symbol) GROUP BY symbol",
            {"exchange": self.exchange, "symbols": [*symbols, ""]},
        )
        return dict(rows)

    def now(self) -> int:
        """The warm tier's clock, microseconds since 1970."""
        return self._clickhouse.now()


def _gap(exchange: str, symbol: str, canonical: str, first: int, last: int, *rest: Any) -> Gap:
    after, before, state, found, tried, tries, note = rest
    return Gap(
        exchange, symbol, canonical, Ids(first, last), after, before, State(state), found, max(tried, 0), tries, note
    )


def _time(micros: int) -> str:
    return f"fromUnixTimestamp64Micro({micros}, 'UTC')"


def find(ledger: GapLedger, *, lookback: int = KEPT, patience: int = 60 * SECOND) -> dict[str, Any]:
    """Bring the ledger up to date with bronze: new gaps, and those that were filled.

    :param ledger: of one exchange.
    :param lookback: look for new gaps among the trades that have arrived for so long, microseconds.
    :param patience: leave a hole alone for so long after the trade behind it has arrived, microseconds.
    :returns: what was done: ``new``, ``filled``, ``open`` (gaps), ``missing`` (trades), and ``other_numbering``: holes
        that are too large to be gaps, as text.
    """
    now = ledger.now()
    known = ledger.read(State.OPEN, State.VOID)
    holes = ledger.holes(now - lookback, now - patience, now - KEPT)
    larger = [hole for hole in holes if hole[1].count > OTHER_NUMBERING]
    names = ledger.canonical({hole[0] for hole in holes})
    taken = {name: Ranges(gap.ids for gap in known if gap.symbol == name) for name in {gap.symbol for gap in known}}
    fresh: list[Gap] = []
    for symbol, ids, after, before in (hole for hole in holes if hole[1].count <= OTHER_NUMBERING):
        for piece in ids.without(taken[symbol].over(ids) if symbol in taken else ()):
            canonical = names.get(symbol, symbol)
            fresh.append(Gap(ledger.exchange, symbol, canonical, piece, after, before, State.OPEN, now))
    report = settle(ledger, [*(gap for gap in known if gap.state is State.OPEN), *fresh], now)
    others = [f"{symbol}: {ids.first} to {ids.last}" for symbol, ids, _, _ in larger]
    return {**report, "other_numbering": others}


def settle(ledger: GapLedger, gaps: Sequence[Gap], now: int) -> dict[str, Any]:
    """Compare open gaps with bronze, and write down what has changed.

    :param ledger: of one exchange.
    :param gaps: open ones; those that were found ``now`` are not written down yet.
    :param now: microseconds since 1970.
    :returns: as :func:`find`.
    """
    held = ledger.held(gaps)
    changed: list[Gap] = []
    left: list[Gap] = []
    for gap in gaps:
        pieces = gap.split(held[gap.symbol].over(gap.ids) if gap.symbol in held else ())
        if gap.found == now:
            # What has arrived in another order is no gap.
            pieces = [piece for piece in pieces if piece.state is State.OPEN]
            changed += pieces
        elif pieces != [gap]:
            changed += pieces
        left += [piece for piece in pieces if piece.state is State.OPEN]
    ledger.write(changed)
    return {
        "exchange": ledger.exchange,
        "new": len([gap for gap in changed if gap.found == now]),
        "filled": len([gap for gap in changed if gap.state is State.FILLED]),
        "open": len(left),
        "missing": sum(gap.missing for gap in left),
    }
