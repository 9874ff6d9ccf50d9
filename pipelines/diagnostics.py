"""Draw what diagnose found."""

import checkout

checkout.stage("diagnostics")
