"""The operator of the gap ledger: finds missing trades of one exchange, and fills them from its history."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperator

from airflow_provider_k2.exceptions import K2Error
from airflow_provider_k2.windows import SECOND

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.providers.common.compat.sdk import Context

HOUR = 3600 * SECOND


class OpenGapError(K2Error):
    """Gaps have been open for too long."""


class GapsOperator(BaseOperator):
    """Bring the gap ledger of one exchange up to date with bronze, and fill what is missing.

    What the exchange does not give stays open with its reason, and is tried again by later runs. Gaps that are open for
    longer than ``alert_hours`` fail the task at its end.

    :param exchange: ``binance``, ``kraken`` or ``coinbase``. (templated)
    :param lookback_hours: look for new gaps among the trades that have arrived for so long.
    :param patience_seconds: leave a hole alone for so long after the trade behind it has arrived.
    :param limit: maximum gaps that are tried in a run, the oldest first.
    :param wait_seconds: how long to wait until the consumer has brought what was sent to bronze.
    :param alert_hours: age from which an open gap fails the task; None: never.
    :param clickhouse_conn_id: connection of the warm tier.
    :param kafka_conn_id: connection of the broker, of type ``kafka``.
    :param http_conn_id: connection of the exchange's REST interface, of type ``http``; ``k2_EXCHANGE`` if it exists,
        else the exchange's public address.
    :returns: the report of :func:`.close_gaps`, as XCom; also when the task fails.
    """

    ui_color = "#e8f0e0"
    template_fields: Sequence[str] = ("exchange",)

    def __init__(  # noqa: PLR0913 - each is an option of the task
        self,
        *,
        exchange: str,
        lookback_hours: float = 6,
        patience_seconds: float = 60,
        limit: int = 1_000,
        wait_seconds: float = 60,
        alert_hours: float | None = 24,
        clickhouse_conn_id: str = "clickhouse_default",
        kafka_conn_id: str = "kafka_default",
        http_conn_id: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.exchange = exchange
        self.lookback_hours = lookback_hours
        self.patience_seconds = patience_seconds
        self.limit = limit
        self.wait_seconds = wait_seconds
        self.alert_hours = alert_hours
        self.clickhouse_conn_id = clickhouse_conn_id
        self.kafka_conn_id = kafka_conn_id
        self.http_conn_id = http_conn_id

    def execute(self, context: Context) -> dict[str, Any]:
        """Find, fill, and look whether bronze has it."""
        from airflow_provider_k2.gaps.history import History
        from airflow_provider_k2.gaps.ledger import GapLedger
        from airflow_provider_k2.gaps.model import State
        from airflow_provider_k2.gaps.run import close_gaps
        from airflow_provider_k2.hooks.clickhouse import ClickHouseHook
        from airflow_provider_k2.hooks.feed_connections import kafka_settings, rest_of
        from airflow_provider_k2.venues import find_venue

        venue = find_venue(self.exchange)
        base, headers = rest_of(venue, self.http_conn_id)
        ledger = GapLedger(ClickHouseHook(self.clickhouse_conn_id), venue.name)
        report = close_gaps(
            ledger,
            History(venue, base, headers),
            kafka_settings(self.kafka_conn_id),
            lookback=int(self.lookback_hours * HOUR),
            patience=int(self.patience_seconds * SECOND),
            limit=self.limit,
            wait=self.wait_seconds,
            note=self.log.warning,
        )
        self.log.info(
            "%s: %s new gaps, %s filled, %s trades sent, %s open with %s missing trades",
            *(report[name] for name in ("exchange", "new", "filled", "sent", "open", "missing")),
        )
        old = ledger.now() - int((self.alert_hours or 0) * HOUR)
        late = [gap for gap in ledger.read(State.OPEN) if gap.found < old] if self.alert_hours is not None else []
        if late:
            context["ti"].xcom_push(key="return_value", value=report)
            first = min(late, key=lambda gap: gap.found)
            raise OpenGapError(
                f"{venue.name}: {len(late):,} gaps with {sum(gap.missing for gap in late):,} trades have been open for "
                f"more than {self.alert_hours:g} hours; {first.symbol}, ids {first.ids.first} to {first.ids.last}: "
                f"{first.note or 'not tried yet'}",
                untouched="They stay open, and candles over them are marked",
                fix=f"look at `k2 gaps list --exchange {venue.name}`",
            )
        return report
