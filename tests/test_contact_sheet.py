import torch

from translate.contact_sheet import grid


def test_grid_places_images_of_all_kinds_in_rows_and_columns():
    red = torch.tensor([255, 0, 0], dtype=torch.uint8)[:, None, None].expand(3, 8, 8)
    clear = torch.zeros(4, 8, 8, dtype=torch.uint8)
    sheet = grid([[red, red[:1]], [clear, torch.cat([red, red])]], gap=2)
    assert sheet.shape == (3, 22, 22)
    assert torch.equal(sheet[:, 2:10, 2:10], red)
    assert torch.equal(sheet[:, 12:20, 12:20], red)  # the first three of many bands
    assert (sheet[:, 2:10, 12:20] == 255).all()
    assert (sheet[:, 12:20, 2:10] == 255).all()


def test_titles_are_written_above_the_columns():
    image = torch.full((3, 40, 40), 255, dtype=torch.uint8)
    plain, titled = grid([[image, image]]), grid([[image, image]], ["input", "a very long title that is cut"])
    assert titled.shape[1] == plain.shape[1] + 16
    assert (titled[:, :16] < 128).any()
    assert (titled[:, 16:] == 255).all()
