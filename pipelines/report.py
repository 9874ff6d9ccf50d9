"""Write the comparison as one page."""

import checkout

checkout.stage("report")
