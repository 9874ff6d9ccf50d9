"""Look for leaks in a domain's data and models."""

import checkout

checkout.stage("probe")
