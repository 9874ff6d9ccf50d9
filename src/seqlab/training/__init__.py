"""How a family is fitted: `closed_form`, or `gradient` with Lightning's Trainer."""
