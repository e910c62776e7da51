"""Values to and from R, by jsonlite, which IRkernel brings."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from .text import TextLanguage

RESERVED = frozenset(
    {"if", "else", "repeat", "while", "function", "for", "next", "break", "in"}
    | {"TRUE", "FALSE", "NULL", "Inf", "NaN", "NA"}
)

# A list of equal scalars is a vector; fromJSON's own simplification would turn c(1, "a") into text.
MAKE = """
make <- function(x) {
  if (!is.list(x)) return(x)
  if (!is.null(names(x)) && !length(x)) return(x)
  x <- lapply(x, make)
  kind <- unique(vapply(x, function(e) {
    if (is.null(names(x)) && is.atomic(e) && length(e) == 1) {
      if (is.numeric(e)) "number" else class(e)[1]
    } else "other"
  }, ""))
  if (length(kind) == 1 && kind != "other") unlist(x) else x
}
"""

# jsonlite writes 15 digits of large numbers whatever it is told, and doubles as integers.
CHECK = """
digits <- function(x) {
  text <- sprintf("%.17g", x)
  whole <- !grepl("[.e]", text)
  text[whole] <- paste0(text[whole], ".0")
  text[is.na(x)] <- "null"
  text
}
check <- function(x, column = FALSE) {
  if (is.function(x) || is.environment(x) || is.language(x) || is.complex(x) || is.raw(x) ||
      isS4(x)) stop(paste("a", class(x)[1], "has no form in JSON"))
  if (is.data.frame(x)) return(lapply(as.list(x), check, column = TRUE))
  if (is.matrix(x)) return(lapply(seq_len(nrow(x)), function(i) check(x[i, ], TRUE)))
  if (is.list(x)) return(lapply(x, check))
  if (!is.null(names(x)) && is.atomic(x)) return(lapply(as.list(x), check))
  if (is.double(x) && !is.object(x)) {
    if (any(is.nan(x) | is.infinite(x))) stop("NaN and Inf have no form in JSON")
    text <- digits(x)
    if (length(x) != 1 || column) text <- paste0("[", paste(text, collapse = ","), "]")
    return(structure(text, class = "json"))
  }
  if (column) I(x) else x
}
"""


class R(TextLanguage):
    """See :class:`.text.TextLanguage`."""

    name = "R"
    names = re.compile(r"(?!_|\.\d|\d)[A-Za-z.][\w.]*", re.ASCII)

    def is_name(self, name: str) -> bool:
        """Whether it can be written without quotes."""
        return super().is_name(name) and name not in RESERVED

    def begin(self) -> str:
        """Keep the pieces where no variable of the user's is."""
        return "options(kernel_magics = new.env())"

    def add(self, number: int, piece: str) -> str:
        """Add to a vector of pieces."""
        return (
            f'local({{e <- getOption("kernel_magics"); e$v{number} <- c(e$v{number}, "{piece}")}})'
        )

    def finish(self, values: Sequence[tuple[str, int, bytes]]) -> str:
        """Make all before the first is set."""
        made = "".join(
            f'text <- paste0(c("", e$v{number}), collapse = "")\n'
            f'if (nchar(text) != {size}) stop("pieces of it never came")\n'
            'json <- rawToChar(jsonlite::base64_dec(text)); Encoding(json) <- "UTF-8"\n'
            f"made[{number + 1}] <- "
            "list(make(jsonlite::fromJSON(json, simplifyVector = FALSE)))\n"
            for number, (_, size, _) in enumerate(values)
        )
        names = ", ".join(json.dumps(name) for name, _, _ in values)
        return (
            f'local({{{MAKE}e <- getOption("kernel_magics"); made <- list()\n{made}'
            f"names <- c({names})\n"
            "for (name in names) if (exists(name, globalenv(), inherits = FALSE) &&\n"
            '  bindingIsLocked(name, globalenv())) stop(paste(name, "is locked"))\n'
            "for (i in seq_along(names)) assign(names[i], made[[i]], envir = globalenv())\n"
            "options(kernel_magics = NULL)})"
        )

    def show(self, expression: str, mark: str) -> str:
        """Print it, refusing what JSON does not have."""
        return (
            f"local({{{CHECK}json <- jsonlite::toJSON(check(local({{{expression}\n}}, "
            'envir = globalenv())), auto_unbox = TRUE, json_verbatim = TRUE, null = "null", '
            'na = "null")\n'
            f'cat("<{mark}>", jsonlite::base64_enc(charToRaw(enc2utf8(as.character(json)))), '
            f'"</{mark}>", sep = "")}})'
        )
