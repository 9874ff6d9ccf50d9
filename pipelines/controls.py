"""Score a domain's controls."""

import checkout

checkout.stage("controls")
