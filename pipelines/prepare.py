"""Prepare a domain's raw files as arrays."""

import checkout

checkout.stage("prepare")
