"""Measure how far a recurrent family remembers."""

import checkout

checkout.stage("diagnose")
