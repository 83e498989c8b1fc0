"""The conformance kit: what the engine relies on, checked on any model, the built-ins and third parties' alike.

from translate.testing import check_model

def test_my_model_keeps_the_contract():
check_model("mymodel", generator="resnet(blocks=1, width=4)")
"""

from translate.testing.kit import CHECKS, Case, check_model, check_ranks, draw_images

__all__ = ["CHECKS", "Case", "check_model", "check_ranks", "draw_images"]
