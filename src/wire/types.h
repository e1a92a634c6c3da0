// The structs of the Realtime API, named as its OpenAPI schema names them. Plain data, any thread.
// Source: https://developers.cloudflare.com/realtime/ and its OpenAPI file (2024-05-21 lineage).
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace cfr {

enum class SdpType { offer, answer };

struct SessionDescription {
  SdpType type = SdpType::offer;
  std::string sdp;
  bool operator==(const SessionDescription&) const = default;
};

// errorCode + errorDescription, at body or item level; empty code = no error.
struct ApiError {
  std::string code;
  std::string description;
  explicit operator bool() const { return !code.empty(); }
  bool operator==(const ApiError&) const = default;
};

enum class Location { local, remote };
enum class ResourceStatus { active, inactive, initializing };

// Layer choice of a pulled simulcast track. Empty strings are left out of the JSON.
struct SimulcastPreference {
  std::string preferred_rid;
  std::string priority_ordering;  // none | asciibetical
  std::string rid_not_available;  // none | asciibetical
  bool operator==(const SimulcastPreference&) const = default;
};

// One track in a request or a reply. Empty strings and nullopts are members that are absent.
struct TrackObject {
  std::optional<Location> location;
  std::string mid;
  std::string session_id;  // the publisher's; remote tracks only
  std::string track_name;
  std::string kind;  // audio | video
  bool bidirectional = false;
  std::optional<SimulcastPreference> simulcast;
  std::optional<ResourceStatus> status;  // GET session only
  ApiError error;                        // replies only
  bool operator==(const TrackObject&) const = default;
};

struct NewSessionRequest {
  std::optional<SessionDescription> description;  // absent: no body at all
};
struct NewSessionReply {
  ApiError error;
  std::string session_id;
  std::optional<SessionDescription> description;
};

// tracks/new and tracks/update.
struct TracksRequest {
  std::optional<SessionDescription> description;
  std::vector<TrackObject> tracks;
  bool auto_discover = false;
};
// Of tracks/new, tracks/update and tracks/close.
struct TracksReply {
  ApiError error;
  bool requires_immediate_renegotiation = false;
  std::optional<SessionDescription> description;
  std::vector<TrackObject> tracks;
};

struct RenegotiateRequest {
  SessionDescription description;
};
struct RenegotiateReply {
  ApiError error;
  std::optional<SessionDescription> description;
};

struct CloseRequest {
  std::vector<std::string> mids;
  bool force = true;
  std::optional<SessionDescription> description;  // with force = false
};

struct SessionState {
  ApiError error;
  std::vector<TrackObject> tracks;
};

struct IceServer {
  std::vector<std::string> urls;
  std::string username;
  std::string credential;
};
struct IceServersRequest {
  unsigned ttl_s = 0;
  std::string custom_identifier;
};

// The stream document: where a stream is to be found now. See docs/stream-url.md.
struct StreamTrack {
  std::string name;
  std::string kind;  // audio | video
  bool operator==(const StreamTrack&) const = default;
};
struct StreamDocument {
  std::string session_id;
  std::vector<StreamTrack> tracks;
  bool operator==(const StreamDocument&) const = default;
};

}  // namespace cfr
