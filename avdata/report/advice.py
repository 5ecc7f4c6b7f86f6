"""What each reason means and what a person can do about it."""

from __future__ import annotations

from avdata.errors import Reason

ADVICE: dict[str, str] = {
    Reason.BAD_ROW: "Correct the row; `avdata manifest check` lists each one with its line.",
    Reason.BAD_KEY: "Use letters, digits, _ and - only, starting with a letter, digit or _.",
    Reason.DUPLICATE_KEY: "Give every row its own key; the first row with this key was kept.",
    Reason.BAD_URL: "Use an http(s) URL or the path of a local file.",
    Reason.REMOVED: "The video is gone from its site; leave it out or look for an archived copy.",
    Reason.PRIVATE: "The owner made it private; only cookies of an account with access can help: "
    "`steps.fetch.cookies_file`, then `--retry-failed`.",
    Reason.GEO_BLOCKED: "Not shown in this country; set `steps.fetch.proxy` to one where it is, "
    "then rerun with `--retry-failed`.",
    Reason.BOT_CHECK: "The site doubts that you are human: set `steps.fetch.cookies_file`, "
    "raise `steps.fetch.sleep_s`, then rerun with `--retry-failed`.",
    Reason.LOGIN_REQUIRED: "Export the cookies of a logged-in browser to "
    "`steps.fetch.cookies_file`, then rerun with `--retry-failed`.",
    Reason.NOT_FOUND: "Nothing lies at this address (404); correct the URL or leave the row out. "
    "A local file that is there by now is taken with `--retry-failed`.",
    Reason.FORBIDDEN: "The server refuses (403); it may want cookies, or a fresh signed URL. Rerun "
    "with `--retry-failed`.",
    Reason.HTTP_ERROR: "The server refused the request; the detail gives its status code.",
    Reason.SERVER_ERROR: "The server failed (5xx) at every try; rerun with `--retry-failed` later.",
    Reason.RATE_LIMITED: "Too many requests (429): raise `steps.fetch.sleep_s`, use fewer workers, "
    "then rerun with `--retry-failed`.",
    Reason.UNSUPPORTED_URL: "Neither yt-dlp nor plain HTTP can read this page; link to the video.",
    Reason.TIMEOUT: "Took longer than `steps.fetch.timeout_s`; raise it or rerun with "
    "`--retry-failed`.",
    Reason.STALLED: "No byte came for `steps.fetch.stall_timeout_s`; rerun with `--retry-failed`.",
    Reason.CONNECTION: "The server could not be reached; check the network, then `--retry-failed`.",
    Reason.INCOMPLETE: "The transfer broke off; `--retry-failed` goes on where it stopped.",
    Reason.TOO_LARGE: "Larger than `steps.fetch.max_bytes`; raise it if you want this file.",
    Reason.FORBIDDEN_PROTOCOL: "It points to something other than http(s); such links are never "
    "followed.",
    Reason.NOT_MEDIA: "What came is not a video, often an error page; open the URL in a browser.",
    Reason.NO_AUDIO: "The video has no sound; leave it out, or set "
    "`steps.fetch.require_audio: false`.",
    Reason.NO_VIDEO: "The file has no picture; leave it out, or take its sound alone: "
    "`steps.fetch.require_video: false` and `steps.select.scorer: none`.",
    Reason.CORRUPT: "The file is damaged at its source; replace it there, delete it from the "
    "run's media folder, and rerun with `--retry-failed`.",
    Reason.EMPTY: "The file has no content; check what lies at its URL.",
    Reason.WINDOW_PAST_END: "The window ends after the video does: check the times, or set "
    "`steps.trim.short_clips: keep`.",
    Reason.TOO_SHORT: "Shorter than one window; lower `steps.trim.window_s` or leave it out.",
    Reason.NOT_FETCHED: "There is no file for this clip; run fetch first.",
    Reason.BELOW_MIN: "A measure lies under the least value of `steps.select.require`, or in a "
    "range of `steps.select.reject` that begins at the bottom; the rules that clips break are "
    "named beside it.",
    Reason.ABOVE_MAX: "A measure lies over the greatest value of `steps.select.require`, or in a "
    "range of `steps.select.reject`; the rules that clips break are named beside it.",
    Reason.NOT_MEASURED: "A threshold asks for a measure that tag did not take; add its tagger to "
    "`steps.tag.taggers`.",
    Reason.NOT_LISTED: "The moments file has no entry for this clip; add it or use another scorer.",
    Reason.DUPLICATE_VIDEO: "Another clip has the same content; it was kept instead.",
    Reason.DECODER_CRASH: "The process that read this file died of it; convert it with ffmpeg and "
    "list the new file. `--retry-failed` tries again, after an update or with more memory.",
    Reason.CRASHED: "A bug in avdata; please report it with the run's log. A rerun tries these "
    "again, `--allow-crashed` packs the others.",
}
"""One sentence per reason; a test holds it complete."""


def advice(reason: str) -> str:
    """Return what to do about a reason; empty for one this version does not know."""
    return ADVICE.get(reason, "")
