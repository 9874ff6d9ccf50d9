"""Bring every stage up to date, independent ones side by side."""

import checkout

checkout.command("repro")
