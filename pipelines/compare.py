"""Compare every cell of the suite."""

import checkout

checkout.stage("compare")
