"""Pretrain a family on a domain's source."""

import checkout

checkout.stage("pretrain")
