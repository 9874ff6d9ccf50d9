"""Export a translator to CTranslate2."""

import checkout

checkout.command("export")
