"""Plugins: what they may offer (`types`), the hooks by which they offer it (`hooks`), and who offers what (`registry`).

Nothing here knows what is made of it: networks, losses, readers and models ask the registry, and it asks none of them.
"""
