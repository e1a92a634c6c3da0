#include "util/error.h"

namespace cfr {

const char* to_string(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::config: return "config";
    case ErrorKind::unauthorized: return "unauthorized";
    case ErrorKind::gone: return "gone";
    case ErrorKind::rejected: return "rejected";
    case ErrorKind::busy: return "busy";
    case ErrorKind::server: return "server";
    case ErrorKind::unreachable: return "unreachable";
    case ErrorKind::timeout: return "timeout";
    case ErrorKind::protocol: return "protocol";
    case ErrorKind::peer: return "peer";
    case ErrorKind::not_yet: return "not-yet";
    case ErrorKind::cancelled: return "cancelled";
  }
  return "unknown";
}

}  // namespace cfr
