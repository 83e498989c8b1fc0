"""What a run tells on a terminal of the usual width."""

import io

from rich.console import Console

from translate.training.terminal import Terminal


def test_bar_and_losses_both_fit_into_eighty_columns():
    terminal, screen = Terminal(), io.StringIO()
    terminal.console = Console(file=screen, force_terminal=True, width=80)
    losses = {f"generators.adversarial_{number}": 0.5 for number in range(8)}
    with terminal.showing(0, 100):
        terminal.tick({"step": 40, "images_per_second": 12.3, "data_wait": 0.01, "losses": losses}, 100, 5.0)
    shown = screen.getvalue()
    assert "40/100" in shown
    assert "12.3 images/s" in shown
    assert all(name in shown for name in losses)
