"""Draw what evaluation showed of a domain's models."""

import checkout

checkout.stage("draw")
