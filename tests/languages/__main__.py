"""``python -m tests.languages`` writes ``docs/languages.md`` anew."""

from tests.languages.kernels import KERNELS, ROWS
from tests.languages.rows import PAGE, page

PAGE.write_text(page(KERNELS, ROWS), encoding="utf-8")
print(f"{PAGE}: {len(ROWS)} rows")
