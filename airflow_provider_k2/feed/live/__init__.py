"""The feed handler: live trades of an exchange, each message as the exchange sent it, into a Kafka topic.

:class:`.handler.Handler` spreads the symbols over :class:`.line.Line`, each of which keeps one
:class:`.session.Session` (a WebSocket) alive. What a session reads goes through the :class:`.relay.Relay`, which counts
and leaves out what was sent twice, to the :class:`.publisher.KafkaPublisher`. What cannot be sent is counted, logged.
"""

from __future__ import annotations
