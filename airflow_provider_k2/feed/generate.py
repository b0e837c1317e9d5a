"""Makes raw trade messages that look like an exchange's: the same arguments make the same messages.

Trades come in clusters (one taker order that sweeps the book: one side, one moment, prices that walk), clusters come in
bursts (heavy-tailed gaps) over a day with a rhythm, prices follow a geometric random walk on the market's tick,
quantities are log-normal on its lot. Prices and quantities are integers of 1e-8 throughout: no float is ever printed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from airflow_provider_k2.feed.markets import MARKETS, UNIT, Market, find_market
from airflow_provider_k2.feed.messages import EXCHANGES
from airflow_provider_k2.feed.times import TIMES
from airflow_provider_k2.feed.write import WRITERS, Ints, Trades

if TYPE_CHECKING:
    from collections.abc import Iterator

FORMS = {"binance": ("plain", "combined"), "kraken": ("mixed", "v1", "v2", "flat"), "coinbase": ("plain",)}
"""Message forms by exchange; the first is the default."""

MAX_ROWS = 10**12
"""Maximum trades of a plan: more is surely a typing error."""

_CHUNK = 100_000
_VOLATILITY = 1.1e-4  # of the logarithm of the price, by the square root of a second: 60 % a year
_CLUSTER_STOP = 0.45  # chance that a sweep ends after a trade
_DAY = 86_400_000_000


@dataclass(frozen=True)
class FeedPlan:
    """What to make.

    :param exchange: ``binance``, ``kraken`` or ``coinbase``.
    :param symbols: markets, as the exchange writes them.
    :param rows: number of trades over all symbols.
    :param start: time of the first trade at the earliest, microseconds since 1970, UTC.
    :param end: all trades are before it, microseconds since 1970, UTC.
    :param seed: the same seed makes the same trades.
    :param form: message form, see ``FORMS``.
    :raises ValueError: when they do not fit together.
    """

    exchange: str
    symbols: tuple[str, ...]
    rows: int
    start: int
    end: int
    seed: int
    form: str

    def __post_init__(self) -> None:
        """Check what does not need the markets."""
        if self.exchange not in EXCHANGES:
            raise ValueError(f"the exchange {self.exchange!r} is not known; use {' or '.join(EXCHANGES)}")
        if self.form not in FORMS[self.exchange]:
            raise ValueError(f"{self.exchange} has no form {self.form!r}; use {', '.join(FORMS[self.exchange])}")
        if self.rows < 0 or self.end <= self.start or not self.symbols:
            raise ValueError("there is nothing to make: give some symbols, rows and a span of time")
        if self.rows > MAX_ROWS:
            raise ValueError(
                f"more than {MAX_ROWS:,} trades are asked for, nothing was made; give fewer rows or days, or a lower "
                f"rate"
            )
        if self.start not in TIMES or self.end - 1 not in TIMES:
            raise ValueError(
                "the trades would lie before 1970 or after 9999, nothing was made; choose another end, or a shorter "
                "span (fewer days or rows, or a higher rate)"
            )
        if len(set(self.symbols)) != len(self.symbols):
            raise ValueError("a symbol is named twice")


def default_symbols(exchange: str) -> tuple[str, ...]:
    """Symbols that are made when none are asked for."""
    return tuple(MARKETS[exchange])


def generate(plan: FeedPlan) -> Iterator[str]:
    """Make the messages of a plan, in the order in which the exchange would send them.

    :param plan: what to make.
    :returns: raw messages; on Kraken and Coinbase a message may hold several trades.
    :raises ValueError: for a symbol that the exchange would not write so.
    """
    markets = [find_market(plan.exchange, symbol) for symbol in plan.symbols]
    write = WRITERS[plan.exchange]
    prices = [float(np.log(market.price)) for market in markets]
    # Ids grow with time, also from one plan to a later one.
    first_id = max(plan.start // 1_000_000 - 1_500_000_000, 0) * 50 + 1
    ids = [first_id + 7 * number for number in range(len(markets))]
    chunks = -(-plan.rows // _CHUNK)
    seeds = np.random.SeedSequence(plan.seed)
    for number in range(chunks):
        random = np.random.default_rng(seeds.spawn(1)[0])
        rows = min(_CHUNK, plan.rows - number * _CHUNK)
        lower = plan.start + (plan.end - plan.start) * number * _CHUNK // plan.rows
        upper = plan.start + (plan.end - plan.start) * (number * _CHUNK + rows) // plan.rows
        trades = _make_chunk(random, markets, rows, lower, upper, prices, ids, plan.exchange == "binance")
        yield from write(random, plan.form, markets, trades)


def _make_chunk(
    random: np.random.Generator,
    markets: list[Market],
    rows: int,
    lower: int,
    upper: int,
    log_prices: list[float],
    ids: list[int],
    whole_milliseconds: bool,
) -> Trades:
    """Make one chunk; the markets' prices and ids are carried on in place."""
    sizes = random.geometric(_CLUSTER_STOP, rows)
    clusters = int(np.searchsorted(np.cumsum(sizes), rows)) + 1
    sizes = sizes[:clusters]
    sizes[-1] -= sizes.sum() - rows
    starts = _cluster_times(random, clusters, lower, upper)
    shares = np.array([market.share for market in markets])
    cluster_market = random.choice(len(markets), clusters, p=shares / shares.sum())
    cluster_sells = random.random(clusters) < 0.5
    cluster_price = _walk(random, markets, cluster_market, starts, log_prices)

    cluster = np.repeat(np.arange(clusters), sizes)
    step = np.arange(rows) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    market = cluster_market[cluster]
    sells = cluster_sells[cluster]
    tick = np.array([market.tick for market in markets])[market]
    lot = np.array([market.lot for market in markets])[market]
    typical = np.array([market.size for market in markets])[market]
    # A taker crosses the spread and then walks the book, away from the middle.
    away = 1 + step * (random.random(rows) < 0.6)
    price = np.maximum(cluster_price[cluster] // tick + np.where(sells, -away, away), 1) * tick
    quantity = np.maximum(np.rint(typical * random.lognormal(0.0, 1.6, rows)), 1).astype(np.int64) * lot
    # Nothing that a real exchange would not do: no trade above ten million of the quote currency.
    quantity = np.maximum(np.minimum(quantity, (10_000_000 * UNIT // price * UNIT) // lot * lot), lot)
    time = starts[cluster]
    spread = step * 900 + random.integers(0, 800, rows)
    time = time // 1000 * 1000 if whole_milliseconds else np.minimum(time + spread, upper - 1)
    limit = (random.random(clusters) < 0.4)[cluster]
    return Trades(cluster, market, time, sells, price, quantity, _take_ids(market, ids), limit)


def _cluster_times(random: np.random.Generator, count: int, lower: int, upper: int) -> Ints:
    """Spread clusters over a span: log-normal gaps make bursts and lulls, the hour of the day their rhythm."""
    gaps = random.lognormal(0.0, 1.5, count + 1)
    hour = np.linspace(lower % _DAY, lower % _DAY + (upper - lower), count + 1) / _DAY
    gaps /= 1 + 0.5 * np.sin(2 * np.pi * (hour - 0.35))
    share = np.cumsum(gaps)[:-1] / gaps.sum()
    return np.asarray(lower + (share * (upper - lower)).astype(np.int64), dtype=np.int64)


def _walk(
    random: np.random.Generator, markets: list[Market], cluster_market: Ints, starts: Ints, log_prices: list[float]
) -> Ints:
    """Middle price of every cluster, in 1e-8: one geometric random walk a market, carried on in ``log_prices``."""
    price = np.zeros(len(starts), dtype=np.int64)
    for number in range(len(markets)):
        mine = cluster_market == number
        if not mine.any():
            continue
        seconds = np.diff(starts[mine], prepend=starts[mine][0]) / 1e6
        path = log_prices[number] + np.cumsum(random.normal(0.0, _VOLATILITY, mine.sum()) * np.sqrt(seconds + 0.01))
        price[mine] = np.exp(path).astype(np.int64)
        log_prices[number] = float(path[-1])
    return price


def _take_ids(market: Ints, ids: list[int]) -> Ints:
    """Give every trade the next id of its market."""
    trade_id = np.zeros(len(market), dtype=np.int64)
    for number in range(len(ids)):
        mine = market == number
        count = int(mine.sum())
        trade_id[mine] = np.arange(ids[number], ids[number] + count)
        ids[number] += count
    return trade_id
