"""The gallery in a real browser: what it shows, compared with the shards; and that it asks nobody for anything."""

from __future__ import annotations

import base64
import io
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from builder.command_line import main
from sa_med2d_20m import DatasetError, decode_masks
from shards.description import read_sources
from shards.index_schema import INDEX_SCHEMA
from shards.report.choose import Chooser, Entry
from shards.report.findings.look import Looked, look
from shards.report.gallery import write_gallery
from shards.report.pictures import read_pictures
from shards.report.rows import batches, rows_of
from tests.support.browser import Watched, chromium, watched
from tests.support.hand_made import INDEX, HandMade, cells, png, write_dataset
from tests.support.output import members

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

HOSTILE = "<img src=x onerror='window.hacked=1'></script><script>window.hacked=1</script>"


def of_cells(case: str, image: npt.NDArray[Any], label_map: npt.NDArray[Any], **changes: Any) -> HandMade:
    """A sample with other pixels, whose masks are the numbers of its map."""
    first, _ = cells(2, case)
    numbers = [int(number) for number in np.unique(label_map) if number]
    masks = [
        {
            **first.record["masks"][0],
            "id": number,
            "label": "cell",
            "bbox": list(cv2.boundingRect((label_map == number).astype(np.uint8))),
            "area": int((label_map == number).sum()),
        }
        for number in numbers
    ]
    size = {"height": image.shape[0], "width": image.shape[1]}
    return HandMade(png(image), png(label_map), {**first.record, **size, "masks": masks, **changes})


def hand_made() -> list[HandMade]:
    """Two layers; a picture that is too large to be shown whole; one of 16 bit; and one whose texts hold HTML."""
    rng = np.random.default_rng(0)
    large = np.zeros((900, 1200), np.uint8)
    large[100:500, 300:900] = 1
    large[500:800, 300:700] = 2
    colour = np.zeros((900, 1200, 3), np.uint8)
    colour[..., 2] = np.linspace(0, 255, 1200)
    deep = rng.integers(0, 4000, (60, 80)).astype(np.uint16)
    small = np.zeros((60, 80), np.uint8)
    small[5:20, 60:78] = 1
    odd = of_cells("odd", rng.integers(0, 255, (60, 80)).astype(np.uint8), small)
    masks = [{**odd.record["masks"][0], "label": HOSTILE, "organ": HOSTILE}]
    hostile = {"masks": masks, "case": HOSTILE, "patient": HOSTILE, "image_file": HOSTILE, "submodality": HOSTILE}
    return [
        cells(2)[0],
        of_cells("large", colour, large),
        of_cells("deep", deep, small),
        replace(odd, record={**odd.record, **hostile}),
    ]


@pytest.fixture(scope="module")
def out(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built folder with a further source, of samples made by hand; nobody writes to it."""
    folder = tmp_path_factory.mktemp("gallery") / "out"
    shutil.copytree(built, folder)
    write_dataset(folder, hand_made())
    rows = pq.read_table(folder / INDEX).to_pylist()
    about = {"shard": INDEX.replace("index", "data", 1).replace(".parquet", ".tar"), "not_annotated": []}
    rows = [{**row, **about, "dropped": {"masks": 0, "pixels": 0}} for row in rows]
    pq.write_table(pa.Table.from_pylist(rows, schema=INDEX_SCHEMA), folder / INDEX)
    source = json.loads((folder / "build/sources/Alpha.json").read_text())
    source |= {"name": "Cells", "title": HOSTILE, "homepage": "javascript:window.hacked=1", "citation": HOSTILE}
    (folder / "build/sources/Cells.json").write_text(json.dumps({**source, "license": "MIT", "license_evidence": None}))
    return folder


@pytest.fixture(scope="module")
def samples(out: Path) -> dict[str, dict[str, Any]]:
    """Key -> the members of each sample, by the column names of stock `datasets`."""
    found: dict[str, dict[str, Any]] = {}
    for name, data in members(out):
        key, ending = name.split(".", 1)
        found.setdefault(key, {})[ending] = json.loads(data) if ending == "json" else data
    return found


@pytest.fixture(scope="module")
def gallery(out: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    page = folder / "report.html"
    assert main(["report", str(out), "--to", str(folder / "report"), "--html", str(page), "--samples", "200"]) == 0
    return page


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture
def seen(browser: Browser, gallery: Path) -> Iterator[Watched]:
    """The open gallery; it must not have said or asked for anything when a test ends."""
    found = watched(browser)
    found.page.goto(gallery.as_uri())
    found.page.wait_for_selector(".tile canvas[data-frame]")
    yield found
    assert found.said == []
    assert [url for url in found.asked if not url.startswith(("data:", "file:"))] == []
    assert found.page.evaluate("window.hacked") is None
    found.page.close()


def record(page: Page) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(page.locator("#set").text_content() or "")
    return found


def shown(page: Page) -> list[dict[str, Any]]:
    """The metadata of the samples that the tiles that are to be seen stand for."""
    text = "JSON.stringify(tiles.filter((t) => !t.hidden).flatMap((t) => items[t.dataset.item].map((n) => frames[n].about)))"
    found: list[dict[str, Any]] = json.loads(page.evaluate(text))
    return found


def open_key(page: Page, key: str) -> None:
    page.evaluate("(key) => { location.hash = encodeURIComponent(key); }", key)
    page.wait_for_function("(key) => document.getElementById('name').textContent === key", arg=key)
    settle(page, "")


def settle(page: Page, only: str, kind: str = "fills") -> None:
    """Wait until the sample that is asked for is painted."""
    done = """([only, kind]) => { const canvas = document.querySelector('#stage canvas');
        return canvas && canvas.dataset.only === only && canvas.dataset.kind === kind && document.getElementById('name').textContent
        === set.frames[canvas.dataset.frame].about.key }"""
    page.wait_for_function(done, arg=[only, kind])


def overlay(page: Page, where: str = "#stage canvas") -> npt.NDArray[np.uint8]:
    """The pixels of an overlay, (H, W, 4)."""
    read = """(where) => { const canvas = document.querySelector(where);
        const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
        let text = ''; for (const value of data) text += String.fromCharCode(value);
        return [canvas.height, canvas.width, btoa(text)]; }"""
    height, width, data = page.evaluate(read, where)
    return np.frombuffer(base64.b64decode(data), np.uint8).reshape(height, width, 4)


def expected_masks(sample: dict[str, Any], shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    """The masks of a sample, (N, H, W), in the size in which it is shown: of each pixel the one at its middle."""
    masks = decode_masks(sample)
    rows = ((np.arange(shape[0]) + 0.5) * masks.shape[1] / shape[0]).astype(int)
    columns = ((np.arange(shape[1]) + 0.5) * masks.shape[2] / shape[1]).astype(int)
    return masks[:, rows][:, :, columns]


def test_all_sources_and_classes_are_there(seen: Watched, samples: dict[str, dict[str, Any]]) -> None:
    there, every = shown(seen.page), [sample["json"] for sample in samples.values()]
    assert {about["source"] for about in there} == {one["source"] for one in every}
    labels = {label for label, _, _ in record(seen.page)["labels"]}
    assert labels == {mask["label"] for one in every for mask in one["masks"]}
    assert {about["plane"] for about in there} == {"axial", "coronal", "sagittal", "2d"}
    assert len(there) == len({about["key"] for about in there}) == 200
    for about in there:
        fields = {name: value for name, value in samples[about["key"]]["json"].items() if name != "masks"}
        assert about == fields


def test_a_filter_shows_what_has_the_value(seen: Watched) -> None:
    page, before = seen.page, shown(seen.page)
    for name in ("modality", "source", "split", "licence", "plane"):
        field = {"licence": "license"}.get(name, name)
        for value in sorted({about[field] for about in before}):
            page.select_option(f"#by-{name}", value)
            assert [about["key"] for about in shown(page)] == [one["key"] for one in before if one[field] == value]
            count = page.locator(".tile:not([hidden])").count()
            assert page.locator("#count").text_content() == f"{count} of {len(record(page)['items'])} shown"
            assert f"({count})" in (page.locator(f"#by-{name} option:checked").text_content() or "")
        page.click("#reset")
        assert shown(page) == before


def test_filters_by_label_and_together(seen: Watched, samples: dict[str, dict[str, Any]]) -> None:
    page = seen.page
    page.select_option("#by-label", "liver")
    page.select_option("#by-plane", "coronal")
    page.select_option("#by-source", "Magnet")
    found = shown(page)
    assert found
    for about in found:
        assert (about["plane"], about["source"]) == ("coronal", "Magnet")
        assert "liver" in {mask["label"] for mask in samples[about["key"]]["json"]["masks"]}
    options = page.locator("#by-modality option").all_text_contents()
    assert [text for text in options if text.startswith("ct")] == []
    page.fill("#search", "nobody has this")
    assert shown(page) == []
    assert page.locator("#nothing").is_visible()
    page.click("#reset2")
    page.fill("#search", "--large--")
    assert [about["case"] for about in shown(page)] == ["large"]


def test_overlays_lie_on_the_right_pixels(seen: Watched, samples: dict[str, dict[str, Any]]) -> None:
    """For all sources, planes and kinds of pictures: all masks, and each class alone."""
    page, chosen = seen.page, {}
    for about in shown(page):
        chosen[about["source"], about["plane"], about["case"] if about["source"] == "Cells" else ""] = about["key"]
    assert len(chosen) == 3 * 3 + 4
    for key in chosen.values():
        open_key(page, key)
        painted = overlay(page)
        masks = expected_masks(samples[key], painted.shape)
        assert (painted[..., 3] == 255).tolist() == masks.any(0).tolist()
        labels = [mask["label"] for mask in samples[key]["json"]["masks"]]
        for number, label in enumerate(dict.fromkeys(labels)):
            page.locator("#legend button").nth(number).click()
            settle(page, label)
            own = masks[[one == label for one in labels]].any(0)
            alone = overlay(page)
            assert (alone[..., 3] == 255).tolist() == own.tolist()
            assert len(np.unique(alone[own], axis=0)) == 1
            page.locator("#legend button").nth(number).click()
            settle(page, "")


def test_pictures_are_those_of_the_shards(seen: Watched, samples: dict[str, dict[str, Any]]) -> None:
    """And lie where their overlays lie. They are WebP, so pixels are nearly the same."""
    page = seen.page
    read = """() => { const image = document.querySelector('#stage img'), canvas = document.createElement('canvas');
        canvas.width = image.naturalWidth; canvas.height = image.naturalHeight; canvas.id = 'copy';
        canvas.getContext('2d').drawImage(image, 0, 0); document.querySelector('#stage').append(canvas); }"""
    for about in shown(page)[::40]:
        open_key(page, about["key"])
        boxes = [page.locator(f"#stage > {kind}").first.bounding_box() for kind in ("img", "canvas")]
        assert boxes[0] == boxes[1]
        sides = overlay(page).shape
        page.evaluate(read)
        found = overlay(page, "#copy")
        assert found.shape == sides
        pixels = cv2.imdecode(np.frombuffer(samples[about["key"]]["png"], np.uint8), cv2.IMREAD_COLOR)
        assert pixels is not None
        small = cv2.resize(pixels, (found.shape[1], found.shape[0]), interpolation=cv2.INTER_AREA)[..., ::-1]
        assert np.abs(found[..., :3].astype(int) - small).mean() < 8


def test_the_overlay_of_a_tile(seen: Watched, samples: dict[str, dict[str, Any]]) -> None:
    page = seen.page
    page.select_option("#by-source", "Cells")
    page.wait_for_function("() => document.querySelectorAll('.tile:not([hidden]) canvas[data-frame]').length === 4")
    for item, about in zip(page.locator(".tile:not([hidden])").all(), shown(page), strict=True):
        number = item.get_attribute("data-item")
        painted = overlay(page, f".tile[data-item='{number}'] canvas")
        masks = expected_masks(samples[about["key"]], painted.shape)
        assert (painted[..., 3] == 255).tolist() == masks.any(0).tolist()


def test_outlines_are_the_rims_of_masks(seen: Watched, samples: dict[str, dict[str, Any]]) -> None:
    page = seen.page
    key = next(about["key"] for about in shown(page) if about["plane"] == "axial")
    open_key(page, key)
    page.keyboard.press("o")
    settle(page, "", "outlines")
    masks = decode_masks(samples[key])
    inner = [cv2.erode(mask.astype(np.uint8), np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], np.uint8)) for mask in masks]
    rims = np.logical_or.reduce([mask & ~core.astype(bool) for mask, core in zip(masks, inner, strict=True)])
    assert (overlay(page)[..., 3] == 255).tolist() == rims.tolist()


def test_classes_keep_their_colours(seen: Watched) -> None:
    """In all slices of a volume, also where the first class is not seen; and no two of forty classes look the same."""
    colours = seen.page.evaluate(
        """() => { const [first, second] = items.find((item) => item.length > 1);
        const label = frames[second].masks.at(-1)[2];
        frames[first].masks = frames[second].masks.slice(-1);
        frames[second].masks.unshift([0, 250, labels.length, 1]);
        return [first, second].map((number) => colorsOf(number).get(label)); }"""
    )
    assert colours[0] == colours[1]
    distinct = "new Set(Array.from({ length: 40 }, (_, at) => colorAt(at).join())).size"
    assert seen.page.evaluate(distinct) == 40


def test_the_keyboard(seen: Watched) -> None:
    page = seen.page
    focused = "document.activeElement.dataset.item"
    page.keyboard.press("ArrowRight")
    assert page.evaluate(focused) == "0"
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert page.evaluate(focused) == "2"
    page.keyboard.press("ArrowDown")
    below = int(page.evaluate(focused))
    tops = page.evaluate("[...document.querySelectorAll('.tile')].map((tile) => tile.getBoundingClientRect().left)")
    assert below > 2
    assert tops[below] == tops[2]
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowLeft")
    assert page.evaluate(focused) == "1"
    page.keyboard.press("Enter")
    settle(page, "")
    found = record(page)
    volume = found["items"][1]
    assert len(volume) == 16  # a volume stands in the second place
    name = page.locator("#name")
    keys = [found["frames"][number]["about"]["key"] for number in volume]
    assert name.text_content() == keys[8]
    page.keyboard.press("ArrowUp")
    page.wait_for_function("(key) => document.getElementById('name').textContent === key", arg=keys[9])
    page.locator("#slider").fill("15")
    page.wait_for_function("(key) => document.getElementById('name').textContent === key", arg=keys[15])
    indices = [found["frames"][number]["about"]["index"] for number in volume]
    assert indices == sorted(set(indices))
    page.locator("#before").focus()
    page.keyboard.press("ArrowRight")
    first = found["frames"][found["items"][2][0]]["about"]["key"]
    page.wait_for_function("(key) => document.getElementById('name').textContent === key", arg=first)
    page.keyboard.press("Escape")
    assert not page.locator("#view").is_visible()
    page.wait_for_function(
        "() => document.activeElement.dataset.item === '2'"
    )  # a dialog says later that it was closed
    page.keyboard.press("/")
    page.keyboard.type("alpha mo")
    assert page.locator("#search").input_value() == "alpha mo"
    assert page.locator("#masks").is_checked()  # letters that are typed are no commands


def test_masks_and_opacity(seen: Watched) -> None:
    page = seen.page
    opacity = "getComputedStyle(document.querySelector('.tile canvas')).opacity"
    assert page.evaluate(opacity) == "0.55"
    page.locator("#opacity").fill("20")
    assert page.evaluate(opacity) == "0.2"
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("+")
    assert page.evaluate(opacity) == "0.3"
    page.keyboard.press("-")
    page.keyboard.press("-")
    assert page.evaluate(opacity) == "0.1"
    page.keyboard.press("m")
    assert not page.locator(".tile canvas").first.is_visible()
    page.keyboard.press("m")
    assert page.locator(".tile canvas").first.is_visible()


def test_a_link_leads_to_a_sample(seen: Watched, gallery: Path) -> None:
    page = seen.page
    found = record(page)
    key = found["frames"][found["items"][1][3]]["about"]["key"]
    page.goto("about:blank")
    page.goto(f"{gallery.as_uri()}#{key}")
    settle(page, "")
    assert page.locator("#name").text_content() == key
    assert page.locator("#slider").input_value() == "3"
    assert page.locator("#about a").first.get_attribute("href") == f"#{key}"
    page.click("#close")
    page.wait_for_function("() => location.hash === ''")  # a dialog says that it is closed a moment later


def test_texts_of_others_do_nothing(seen: Watched) -> None:
    page = seen.page
    key = next(about["key"] for about in shown(page) if about["case"] == HOSTILE)
    open_key(page, key)
    assert HOSTILE in (page.locator("#about").text_content() or "")
    assert HOSTILE in (page.locator("#legend").text_content() or "")
    assert HOSTILE in page.locator("#by-label option").all_text_contents()[1]
    assert [link.get_attribute("href") for link in page.locator("#about a").all()] == [f"#{key}"]
    assert (
        page.evaluate(
            "document.querySelectorAll('#about img, #legend img, script:not([type]) + script:not([type])').length"
        )
        == 0
    )
    # whoever gets a script into the page finds that it does not run
    page.evaluate("document.body.append(Object.assign(document.createElement('script'), {textContent: 'hacked = 1'}))")
    assert page.evaluate("window.hacked") is None
    assert len(seen.said) == 1
    assert "Content Security Policy" in seen.said.pop()


def test_the_page_says_what_must_not_be_passed_on(seen: Watched) -> None:
    assert (seen.page.locator("#notice").text_content() or "").endswith("must not be passed on, of Cells.")


@pytest.mark.parametrize(("width", "scheme"), [(390, "light"), (390, "dark"), (1280, "dark")])
def test_nothing_is_wider_than_the_window(browser: Browser, gallery: Path, width: int, scheme: str) -> None:
    found = watched(browser, width=width, scheme=scheme)
    page = found.page
    page.goto(gallery.as_uri())
    page.wait_for_selector(".tile canvas[data-frame]")
    for _ in range(2):
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate("document.getElementById('view').scrollWidth") <= width
        open_key(page, next(about["key"] for about in shown(page) if about["case"] == HOSTILE))
    light, dark = "rgb(255, 255, 255)", "rgb(13, 17, 23)"
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == (dark if scheme == "dark" else light)
    assert found.said == []
    page.close()


def chosen(out: Path, samples: int, looked: Looked | None = None) -> list[Entry]:
    chooser = Chooser(samples)
    for part in batches(rows_of(out), chooser.columns, lambda *_: None):
        chooser.add(part)
    return chooser.chosen([] if looked is None else looked.examples(samples // 4))


def test_a_few_samples_are_of_all_sources_and_classes(out: Path, samples: dict[str, dict[str, Any]]) -> None:
    """However common the others are."""
    entries = chosen(out, 7)
    assert [len(entry.rows) for entry in entries] == [1] * 7
    records = [samples[entry.rows[0]["key"]]["json"] for entry in entries]
    assert {one["source"] for one in records} == {"Alpha", "Beta", "Magnet", "Cells"}
    labels = {mask["label"] for one in records for mask in one["masks"]}
    assert labels == {mask["label"] for sample in samples.values() for mask in sample["json"]["masks"]}


def test_a_further_source_takes_nothing_but_room(out: Path, built: Path) -> None:
    """Where there is room for all, the others keep their samples and volumes."""
    before, after = ([entry.rows for entry in chosen(of, 2000)] for of in (built, out))
    keys = [{row["key"] for rows in found for row in rows} for found in (before, after)]
    assert len(keys[1]) == len(keys[0]) + 4
    assert keys[0] < keys[1]
    volumes = [{tuple(row["key"] for row in rows) for rows in found if len(rows) > 1} for found in (before, after)]
    assert volumes[0] == volumes[1]
    assert len(volumes[0]) == 3


def test_the_same_set_gives_the_same_page(out: Path, gallery: Path) -> None:
    """Made by the functions that the command calls, which also draws figures."""
    looked = look(out, images=200, workers=1, on_case=lambda *_: None)
    entries = chosen(out, 200, looked)
    pictures = read_pictures(out, [row for entry in entries for row in entry.rows])
    page = io.BytesIO()
    write_gallery(page, entries, pictures, read_sources(out), findings=looked.record())
    assert page.getvalue() == gallery.read_bytes()


def test_a_damaged_shard_is_named(out: Path, tmp_path: Path) -> None:
    shutil.copytree(out / "data", tmp_path / "data")
    tar = next((tmp_path / "data").rglob("Cells/*.tar"))
    tar.write_bytes(bytes(tar.stat().st_size))
    row = pq.read_table(out / INDEX).to_pylist()[1]
    with pytest.raises(DatasetError, match="microscopy_00--Cells--large--2d_none: cannot be shown"):
        list(read_pictures(tmp_path, [row]))
