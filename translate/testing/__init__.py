"""The conformance kit: what the engine relies on, checked on any model, the built-ins and third parties' alike.

from translate.testing import check_model

def test_my_model_keeps_the_contract():
check_model("mymodel", generator="resnet(blocks=1, width=4)")
"""

from translate.testing.cases import Case, draw_images
from translate.testing.checks import CHECKS, check_model
from translate.testing.ranks import check_ranks

__all__ = ["CHECKS", "Case", "check_model", "check_ranks", "draw_images"]
