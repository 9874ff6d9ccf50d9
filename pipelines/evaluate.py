"""Score a cell on the target's test split."""

import checkout

checkout.stage("evaluate")
