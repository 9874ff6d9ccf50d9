"""From a file of one's own to a domain: look at it, propose what it is, and write that down for a person to read."""

from seqlab.intake.look import look
from seqlab.intake.proposal import Card, Choice, Hints, Proposal
from seqlab.intake.writing import write_card, write_domain

__all__ = ["Card", "Choice", "Hints", "Proposal", "look", "write_card", "write_domain"]
