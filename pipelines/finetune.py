"""Fine-tune a cell on its target."""

import checkout

checkout.stage("finetune")
