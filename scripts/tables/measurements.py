"""Tiles, sanitized folders, and what things cost."""

from scripts.tables.reading import Rows, name_of, percent, read


def tiles() -> Rows:
    """Seams and fidelity by overlap."""
    rows = [["sigma", "overlap", "jumps at borders, times those elsewhere", "PSNR", "SSIM"]]
    for result in read("tiles.json")["results"]:
        for one in result["tiles"]:
            cells = [f"{one['overlap']} pixels", f"{one['seam']:.2f}", f"{one['psnr']:.1f} dB", f"{one['ssim']:.3f}"]
            rows.append([f"{result['sigma']:g}", *cells])
        whole = result["whole_image_at_once"]
        rows.append([f"{result['sigma']:g}", "whole image at once", "", f"{whole['psnr']:.1f} dB", f"{whole['ssim']:.3f}"])
    return rows


def sanitized_photographs() -> Rows:
    """Tiny ImageNet through a smaller model, by both ways."""
    page = read("tiny_imagenet_sanitized.json")
    rows = [["", "PSNR", "SSIM", "test accuracy (95 % interval)"]]
    for name, label in {"raw": "as received", "tiles": "`--large tiles`", "resize": "`--large resize`"}.items():
        measured, quality = page["test_accuracy"][name], page["quality"].get(name)
        looks = ["", ""] if quality is None else [f"{quality['psnr']:.1f} dB", f"{quality['ssim']:.3f}"]
        low, high = (f"{100 * end:.1f}" for end in measured["interval"])
        rows.append([label, *looks, f"{percent(measured['accuracy'])} ({low} to {high})"])
    return rows


def recipes() -> Rows:
    """What training by a recipe costs."""
    page = read("recipes.json")
    return [["recipe", "times plain training"], *([name, f"{cost:.1f}"] for name, cost in page["times_plain"].items())]


def crafting() -> Rows:
    """A step's time over that of the passes that it cannot do without."""
    rows = [["attack", "poisons", "setups together", "precision", "times the floor (range)"]]
    for one in read("crafting.json")["rows"]:
        low, high = one["ratio_range"]
        cells = [name_of(one["attack"]), str(one["poisons_per_setup"]), str(one["setups"]), one["precision"]]
        rows.append([*cells, f"{one['ratio']:.2f} ({low:.2f} to {high:.2f})"])
    return rows
