"""What to try after an error, by its code: one line that a person can act on."""

from __future__ import annotations

HINTS = {
    "cancelled": "haulage retry does not bring it back; run the same command again",
    "checksum_mismatch": "compare the checksum you gave with the one the publisher names, then haulage retry ID",
    "completion_unknown": "look whether the object is there; haulage retry ID completes it once more",
    "credential_expired": "renew the profile's credential or give a fresh URL; stored parts are kept",
    "destination_exists": "--on-exists overwrite or skip",
    "disk_full": "make room on the destination's disk; the transfer goes on by itself",
    "duplicate": "haulage show ID tells what that transfer does; wait for it or cancel it",
    "file_not_found": "look whether the file is on the machine that the URL names",
    "forbidden": "look at the profile's credentials and permissions",
    "http_client_build_failed": "install the provider's extra on the workers, such as haulage[s3], or mend the profile",
    "internal": "haulage retry ID; if it comes again, report it with the worker's log",
    "internal_error": "HAULAGE_DEBUG=1 shows the traceback; please report it",
    "invalid_part": "haulage retry ID; the store lost or refused a part, which is then sent again",
    "invalid_range": "the server answers ranges wrongly; download from another mirror, or haulage retry ID",
    "invalid_state": "haulage show ID tells its state",
    "io": "look at the permissions and the disk on the machine that the message names, then haulage retry ID",
    "ledger_corrupt": "run the same version of haulage here and on the workers",
    "ledger_unavailable": "start Redis, or set HAULAGE_REDIS_URL",
    "length_unknown": "name the size of the source, or download from a server that tells it",
    "local_busy": "close programs or raise `ulimit -n` on that machine, then haulage retry ID",
    "local_file_removed": "leave the file in place while it is read or written, then run the same command again",
    "not_found": "look at the URL, bucket and key; names are case-sensitive",
    "object_too_large": "choose a destination that takes objects of this size",
    "offset_moved": "haulage retry ID; the server goes on where it says",
    "offset_stuck": "look at the server: it asks again for bytes that it was sent, then haulage retry ID",
    "part_corrupted": "haulage retry ID; if it comes again, the network or a disk damages data",
    "queue_full": "wait until some transfers have ended, or raise HAULAGE_QUEUE_CAPACITY",
    "response_parse": "look whether the endpoint is the service you mean, or a proxy in front of it",
    "response_status": "look at the URL; the status is the server's own answer",
    "runtime_failed": "read the log file that the message names, or use a Redis: HAULAGE_REDIS_URL",  # see hint_for
    "server_fault": "haulage retry ID once the server is well; stored parts are kept",
    "signer_reply_refused": "look at what the signer of the plan answers; stored parts are kept, then haulage retry ID",
    "signer_unavailable": "start the signer of the plan; the transfer goes on by itself",
    "source_changed": "run the same command again; --on-source-change restart does it by itself",
    "stalled": "haulage retry ID once the network is well; stored parts are kept",
    "submit_failed": "haulage ls, then submit it again",
    "throttled": "haulage retry ID later, or use a smaller --parts-in-flight; stored parts are kept",
    "transfer_ended": "run the same command again: it makes a new transfer",
    "transfer_not_found": "haulage ls lists the transfers that are known",
    "certificate_refused": "give its authority to the profile: HAULAGE_PROFILE_NAME__CA_FILE=/path/ca.pem",
    "transport": "haulage retry ID once the other side is back; stored parts are kept",
    "upload_not_found": "haulage retry ID; the store forgot the upload, so it is begun anew",
    "wait_timeout": "haulage wait ID again; the transfer goes on",
}

NO_HINT = frozenset(
    {
        "client_closed",  # a mistake in a program, not of a person
        "haulage_error",  # bases and wrappers: users meet the codes of their children
        "provider_error",
        "transfer_failed",
        "invalid_value",  # the message names what is allowed
        "unknown_scheme",
        "stopped",  # never leaves a worker
    }
)
"""Codes that need none, each for a reason."""

INSTEAD = {
    "copy": "try haulage cp SOURCE DESTINATION",
    "download": "try haulage cp SOURCE DESTINATION",
    "upload": "try haulage cp SOURCE DESTINATION",
    "help": "try haulage --help, or haulage COMMAND --help",
    "list": "try haulage ls",
    "status": "try haulage ls, or haulage show ID",
    "version": "try haulage --version",
    "mv": "moving comes with a later version; haulage cp copies one object",
    "move": "moving comes with a later version; haulage cp copies one object",
    "sync": "folders come with a later version; haulage cp copies one object",
}
"""What people type who know other programs, and what to try."""


def hint_for(code: str, message: str) -> str:
    """What to try after this error; empty where its message says it all."""
    if code == "runtime_failed" and ".log" not in message:
        return ""  # it names what to mend
    return HINTS.get(code, "")
