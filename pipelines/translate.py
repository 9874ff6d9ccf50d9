"""Translate a file or standard input, line by line."""

import checkout

checkout.command("translate")
