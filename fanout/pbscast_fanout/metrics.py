"""What Prometheus is told about publishing."""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter, Gauge

PUBLISHED: Final = Counter("pbscast_published_events", "Events acknowledged by JetStream", ["site"])
CUT: Final = Counter(
    "pbscast_cut_events", "Events published without their largest values", ["site"]
)
FAILURES: Final = Counter("pbscast_publish_failures", "Attempts to publish that failed", ["site"])
FENCED: Final = Counter(
    "pbscast_publish_fenced", "Batches refused because another worker published the site", ["site"]
)
POSITION: Final = Gauge(
    "pbscast_published_position", "Last position known to be on the stream", ["site"]
)
LAG: Final = Gauge("pbscast_publish_lag_events", "Events logged and not yet published", ["site"])
STATE: Final = Gauge(
    "pbscast_publisher_state", "1 for the state a site's publisher is in", ["site", "state"]
)

STREAM_BYTES: Final = Gauge(
    "pbscast_stream_bytes", "What the stream held when it was last looked at", ["stream"]
)
STREAM_MOST_BYTES: Final = Gauge(
    "pbscast_stream_max_bytes", "Beyond which its oldest messages go; 0: no limit", ["stream"]
)

DELIVERED: Final = Counter(
    "pbscast_delivered_messages", "Messages to registered subscriptions", ["site"]
)
DELIVERY_FAILURES: Final = Counter(
    "pbscast_delivery_failures", "Attempts to deliver that failed", ["site"]
)
DELIVERY_FENCED: Final = Counter(
    "pbscast_delivery_fenced",
    "Messages refused because another worker delivered the site",
    ["site"],
)
DELIVERY_LAG: Final = Gauge(
    "pbscast_delivery_lag_events", "Events logged that no subscription was told of yet", ["site"]
)
DELIVERER_STATE: Final = Gauge(
    "pbscast_deliverer_state", "1 for the state a site's deliverer is in", ["site", "state"]
)
ENDED: Final = Counter(
    "pbscast_subscriptions_ended",
    "Subscriptions removed by this worker: asked for, lease ran out, owner may see less",
    ["how"],
)
REGISTERED: Final = Counter(
    "pbscast_subscriptions_registered", "Subscriptions registered by this worker"
)
SUBSCRIPTIONS: Final = Gauge(
    "pbscast_subscriptions", "Registered subscriptions that cover the site", ["site"]
)
JOINING: Final = Gauge(
    "pbscast_subscriptions_joining",
    "Those of them that still are told how everything stood",
    ["site"],
)
