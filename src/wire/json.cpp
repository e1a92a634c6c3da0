#include "wire/json.h"

#include <json-glib/json-glib.h>

#include <algorithm>

#include "util/gref.h"
#include "wire/json_syntax.h"

namespace cfr::json {

namespace {

// The service's texts end up in messages and logs, so both are kept short and plain.
constexpr std::size_t kMaxCodeLength = 80;
// Stands for an error code that was given, but not in the form of one.
constexpr const char* kUnknownCode = "unknown_error";
constexpr std::size_t kMaxStreamDocumentBytes = 64 << 10;

// --- reading ---------------------------------------------------------------------------------

// One value of the tree with its path ("tracks[0].mid"). Reading notes the first problem in a
// place that all views of a text share, and goes on with default values.
class View {
 public:
  View(JsonNode* node, std::string path, std::string& problem)
      : node_(node), path_(std::move(path)), problem_(problem) {}

  bool absent() const { return !node_ || JSON_NODE_HOLDS_NULL(node_); }
  bool is_array() const { return node_ && JSON_NODE_HOLDS_ARRAY(node_); }
  bool is_string() const { return node_ && json_node_get_value_type(node_) == G_TYPE_STRING; }
  bool is_object() const { return node_ && JSON_NODE_HOLDS_OBJECT(node_); }

  void fail(const std::string& what) const {
    if (problem_.empty()) problem_ = (path_.empty() ? "the document" : path_) + " " + what;
  }

  View member(const char* name) const {
    JsonNode* value =
        is_object() ? json_object_get_member(json_node_get_object(node_), name) : nullptr;
    return View(value, path_.empty() ? name : path_ + "." + name, problem_);
  }

  bool expect_object() const {
    if (is_object()) return true;
    fail("must be an object");
    return false;
  }

  std::string string() const {
    if (is_string()) return json_node_get_string(node_);
    fail("must be a string");
    return {};
  }
  std::string optional_string() const { return absent() ? std::string() : string(); }

  bool optional_bool() const {
    if (absent()) return false;
    if (json_node_get_value_type(node_) == G_TYPE_BOOLEAN) return json_node_get_boolean(node_);
    fail("must be true or false");
    return false;
  }

  unsigned positive_integer() const {
    if (!absent() && json_node_get_value_type(node_) == G_TYPE_INT64) {
      gint64 value = json_node_get_int(node_);
      if (value > 0 && value <= G_MAXINT32) return static_cast<unsigned>(value);
    }
    fail("must be a positive integer");
    return 0;
  }

  std::vector<View> items() const {
    std::vector<View> views;
    if (!is_array()) {
      fail("must be a list");
      return views;
    }
    JsonArray* array = json_node_get_array(node_);
    guint length = json_array_get_length(array);
    views.reserve(length);
    for (guint i = 0; i < length; ++i)
      views.emplace_back(json_array_get_element(array, i), path_ + "[" + std::to_string(i) + "]",
                         problem_);
    return views;
  }
  std::vector<View> optional_items() const { return absent() ? std::vector<View>() : items(); }

  // One of a few words.
  std::string choice(std::initializer_list<const char*> words) const {
    std::string text = string(), list;
    for (const char* word : words) {
      if (text == word) return text;
      list += list.empty() ? "" : " or ";
      list += std::string("\"") + word + "\"";
    }
    fail("must be " + list);
    return {};
  }

 private:
  JsonNode* node_;
  std::string path_;
  std::string& problem_;
};

bool well_formed_code(const std::string& code) {
  return !code.empty() && code.size() <= kMaxCodeLength &&
         std::all_of(code.begin(), code.end(), [](char c) {
           return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_';
         });
}

ApiError error_pair(const View& view) {
  ApiError error;
  error.code = view.member("errorCode").optional_string();
  if (!error.code.empty() && !well_formed_code(error.code)) error.code = kUnknownCode;
  error.description = sanitise(view.member("errorDescription").optional_string());
  return error;
}

SessionDescription description(const View& view) {
  SessionDescription description;
  if (!view.expect_object()) return description;
  description.type = view.member("type").choice({"offer", "answer"}) == "answer" ? SdpType::answer
                                                                                 : SdpType::offer;
  description.sdp = view.member("sdp").string();
  return description;
}

std::optional<SessionDescription> optional_description(const View& view) {
  if (view.absent()) return {};
  return description(view);
}

TrackObject track(const View& view) {
  TrackObject track;
  if (!view.expect_object()) return track;
  if (View location = view.member("location"); !location.absent())
    track.location =
        location.choice({"local", "remote"}) == "remote" ? Location::remote : Location::local;
  track.mid = view.member("mid").optional_string();
  track.session_id = view.member("sessionId").optional_string();
  track.track_name = view.member("trackName").optional_string();
  track.kind = view.member("kind").optional_string();
  track.bidirectional = view.member("bidirectionalMediaStream").optional_bool();
  if (View simulcast = view.member("simulcast"); !simulcast.absent()) {
    SimulcastPreference preference;
    simulcast.expect_object();
    preference.preferred_rid = simulcast.member("preferredRid").optional_string();
    if (View word = simulcast.member("priorityOrdering"); !word.absent())
      preference.priority_ordering = word.choice({"none", "asciibetical"});
    if (View word = simulcast.member("ridNotAvailable"); !word.absent())
      preference.rid_not_available = word.choice({"none", "asciibetical"});
    track.simulcast = preference;
  }
  if (View status = view.member("status"); !status.absent()) {
    // A word that later versions may add says nothing to us, but is no reason to refuse the rest.
    // "waiting" is the older name of "initializing".
    std::string word = status.string();
    if (word == "active") track.status = ResourceStatus::active;
    if (word == "inactive") track.status = ResourceStatus::inactive;
    if (word == "initializing" || word == "waiting") track.status = ResourceStatus::initializing;
  }
  track.error = error_pair(view);
  return track;
}

std::vector<TrackObject> tracks(const View& view) {
  std::vector<TrackObject> list;
  for (const View& item : view.optional_items()) list.push_back(track(item));
  return list;
}

Error protocol_error(const std::string& problem) {
  Error error;
  error.kind = ErrorKind::protocol;
  error.message = problem;
  return error;
}

// Parses a text and gives its root object to `read`.
template <class T, class Read>
Result<T> read_object(std::string_view text, Read read, const SyntaxLimits& limits = {}) {
  std::string problem = check_syntax(text, limits);
  if (!problem.empty()) return protocol_error("the document " + problem);
  auto parser = gref<JsonParser>::adopt(json_parser_new());
  // The grammar is checked above, so this fails only where json-glib is narrower than RFC 8259.
  if (!json_parser_load_from_data(parser.get(), text.data(), static_cast<gssize>(text.size()),
                                  nullptr))
    return protocol_error("the document is not JSON");
  View root(json_parser_get_root(parser.get()), "", problem);
  T value;
  if (root.expect_object()) read(root, value);
  if (!problem.empty()) return protocol_error(problem);
  return value;
}

// --- writing ---------------------------------------------------------------------------------

class Writer {
 public:
  Writer() : builder_(gref<JsonBuilder>::adopt(json_builder_new())) {}

  void begin_object() { json_builder_begin_object(builder_.get()); }
  void end_object() { json_builder_end_object(builder_.get()); }
  void begin_object(const char* name) {
    json_builder_set_member_name(builder_.get(), name);
    begin_object();
  }
  void begin_array(const char* name) {
    json_builder_set_member_name(builder_.get(), name);
    json_builder_begin_array(builder_.get());
  }
  void end_array() { json_builder_end_array(builder_.get()); }

  void value(const std::string& text) {
    g_autofree char* valid = g_utf8_make_valid(text.data(), static_cast<gssize>(text.size()));
    json_builder_add_string_value(builder_.get(), valid);
  }
  void member(const char* name, const std::string& text) {
    json_builder_set_member_name(builder_.get(), name);
    value(text);
  }
  void member(const char* name, bool flag) {
    json_builder_set_member_name(builder_.get(), name);
    json_builder_add_boolean_value(builder_.get(), flag);
  }
  void member(const char* name, unsigned number) {
    json_builder_set_member_name(builder_.get(), name);
    json_builder_add_int_value(builder_.get(), number);
  }
  void optional_member(const char* name, const std::string& text) {
    if (!text.empty()) member(name, text);
  }

  void error(const ApiError& error) {
    if (!error) return;
    member("errorCode", error.code);
    member("errorDescription", error.description);
  }
  void description(const SessionDescription& description) {
    begin_object("sessionDescription");
    member("type", std::string(description.type == SdpType::offer ? "offer" : "answer"));
    member("sdp", description.sdp);
    end_object();
  }
  void description(const std::optional<SessionDescription>& maybe) {
    if (maybe) description(*maybe);
  }
  // A failed item keeps its empty mid, as the service's replies do.
  void tracks(const std::vector<TrackObject>& tracks) {
    begin_array("tracks");
    for (const TrackObject& track : tracks) {
      begin_object();
      if (track.location)
        member("location", std::string(*track.location == Location::local ? "local" : "remote"));
      optional_member("sessionId", track.session_id);
      optional_member("trackName", track.track_name);
      if (track.error)
        member("mid", track.mid);
      else
        optional_member("mid", track.mid);
      optional_member("kind", track.kind);
      if (track.bidirectional) member("bidirectionalMediaStream", true);
      if (track.simulcast) {
        begin_object("simulcast");
        optional_member("preferredRid", track.simulcast->preferred_rid);
        optional_member("priorityOrdering", track.simulcast->priority_ordering);
        optional_member("ridNotAvailable", track.simulcast->rid_not_available);
        end_object();
      }
      if (track.status)
        member("status", std::string(*track.status == ResourceStatus::active     ? "active"
                                     : *track.status == ResourceStatus::inactive ? "inactive"
                                                                                 : "initializing"));
      error(track.error);
      end_object();
    }
    end_array();
  }

  std::string text() {
    JsonNode* root = json_builder_get_root(builder_.get());
    auto generator = gref<JsonGenerator>::adopt(json_generator_new());
    json_generator_set_root(generator.get(), root);
    json_node_unref(root);
    g_autofree char* data = json_generator_to_data(generator.get(), nullptr);
    return data;
  }

 private:
  gref<JsonBuilder> builder_;
};

template <class Fill>
std::string write_object(Fill fill) {
  Writer writer;
  writer.begin_object();
  fill(writer);
  writer.end_object();
  return writer.text();
}

}  // namespace

std::string write(const NewSessionRequest& request) {
  if (!request.description) return {};
  return write_object([&](Writer& w) { w.description(request.description); });
}

std::string write(const NewSessionReply& reply) {
  return write_object([&](Writer& w) {
    w.error(reply.error);
    w.optional_member("sessionId", reply.session_id);
    w.description(reply.description);
  });
}

std::string write(const TracksRequest& request) {
  return write_object([&](Writer& w) {
    w.description(request.description);
    if (!request.tracks.empty() || !request.auto_discover) w.tracks(request.tracks);
    if (request.auto_discover) w.member("autoDiscover", true);
  });
}

std::string write(const TracksReply& reply) {
  return write_object([&](Writer& w) {
    w.error(reply.error);
    w.member("requiresImmediateRenegotiation", reply.requires_immediate_renegotiation);
    w.description(reply.description);
    w.tracks(reply.tracks);
  });
}

std::string write(const RenegotiateRequest& request) {
  return write_object([&](Writer& w) { w.description(request.description); });
}

std::string write(const RenegotiateReply& reply) {
  return write_object([&](Writer& w) {
    w.error(reply.error);
    w.description(reply.description);
  });
}

std::string write(const CloseRequest& request) {
  return write_object([&](Writer& w) {
    w.description(request.description);
    w.begin_array("tracks");
    for (const std::string& mid : request.mids) {
      w.begin_object();
      w.member("mid", mid);
      w.end_object();
    }
    w.end_array();
    w.member("force", request.force);
  });
}

std::string write(const SessionState& state) {
  return write_object([&](Writer& w) {
    w.error(state.error);
    w.tracks(state.tracks);
  });
}

std::string write(const IceServersRequest& request) {
  return write_object([&](Writer& w) {
    w.member("ttl", request.ttl_s);
    w.optional_member("customIdentifier", request.custom_identifier);
  });
}

std::string write(const std::vector<IceServer>& servers) {
  return write_object([&](Writer& w) {
    w.begin_array("iceServers");
    for (const IceServer& server : servers) {
      w.begin_object();
      w.begin_array("urls");
      for (const std::string& url : server.urls) w.value(url);
      w.end_array();
      w.optional_member("username", server.username);
      w.optional_member("credential", server.credential);
      w.end_object();
    }
    w.end_array();
  });
}

std::string write(const StreamDocument& document) {
  return write_object([&](Writer& w) {
    w.member("sessionId", document.session_id);
    w.begin_array("tracks");
    for (const StreamTrack& track : document.tracks) {
      w.begin_object();
      w.member("name", track.name);
      w.member("kind", track.kind);
      w.end_object();
    }
    w.end_array();
  });
}

std::string write(const ApiError& error) {
  return write_object([&](Writer& w) { w.error(error); });
}

Result<NewSessionRequest> read_new_session_request(std::string_view text) {
  if (text.empty()) return NewSessionRequest{};
  return read_object<NewSessionRequest>(text, [](const View& root, NewSessionRequest& request) {
    request.description = description(root.member("sessionDescription"));
  });
}

Result<NewSessionReply> read_new_session_reply(std::string_view text) {
  return read_object<NewSessionReply>(text, [](const View& root, NewSessionReply& reply) {
    reply.error = error_pair(root);
    View id = root.member("sessionId");
    reply.session_id = reply.error ? id.optional_string() : id.string();
    if (!reply.error && reply.session_id.empty()) id.fail("must not be empty");
    reply.description = optional_description(root.member("sessionDescription"));
  });
}

Result<TracksRequest> read_tracks_request(std::string_view text) {
  return read_object<TracksRequest>(text, [](const View& root, TracksRequest& request) {
    request.description = optional_description(root.member("sessionDescription"));
    request.tracks = tracks(root.member("tracks"));
    request.auto_discover = root.member("autoDiscover").optional_bool();
  });
}

Result<TracksReply> read_tracks_reply(std::string_view text) {
  return read_object<TracksReply>(text, [](const View& root, TracksReply& reply) {
    reply.error = error_pair(root);
    reply.requires_immediate_renegotiation =
        root.member("requiresImmediateRenegotiation").optional_bool();
    reply.description = optional_description(root.member("sessionDescription"));
    reply.tracks = tracks(root.member("tracks"));
  });
}

Result<RenegotiateRequest> read_renegotiate_request(std::string_view text) {
  return read_object<RenegotiateRequest>(text, [](const View& root, RenegotiateRequest& request) {
    request.description = description(root.member("sessionDescription"));
  });
}

Result<RenegotiateReply> read_renegotiate_reply(std::string_view text) {
  // Nothing is expected of this reply but its status, so an empty body will do.
  if (text.empty()) return RenegotiateReply{};
  return read_object<RenegotiateReply>(text, [](const View& root, RenegotiateReply& reply) {
    reply.error = error_pair(root);
    reply.description = optional_description(root.member("sessionDescription"));
  });
}

Result<CloseRequest> read_close_request(std::string_view text) {
  // As the service does, an absent mid is an empty one (refused with a text of its own) and an
  // absent `force` is false.
  return read_object<CloseRequest>(text, [](const View& root, CloseRequest& request) {
    for (const View& item : root.member("tracks").optional_items())
      if (item.expect_object()) request.mids.push_back(item.member("mid").optional_string());
    request.force = root.member("force").optional_bool();
    request.description = optional_description(root.member("sessionDescription"));
  });
}

Result<SessionState> read_session_state(std::string_view text) {
  return read_object<SessionState>(text, [](const View& root, SessionState& state) {
    state.error = error_pair(root);
    state.tracks = tracks(root.member("tracks"));
  });
}

Result<IceServersRequest> read_ice_servers_request(std::string_view text) {
  return read_object<IceServersRequest>(text, [](const View& root, IceServersRequest& request) {
    request.ttl_s = root.member("ttl").positive_integer();
    request.custom_identifier = root.member("customIdentifier").optional_string();
  });
}

Result<std::vector<IceServer>> read_ice_servers(std::string_view text) {
  using Servers = std::vector<IceServer>;
  return read_object<Servers>(text, [](const View& root, Servers& servers) {
    auto read_server = [&](const View& view) {
      IceServer server;
      if (!view.expect_object()) return;
      View urls = view.member("urls");
      if (urls.is_array())
        for (const View& url : urls.items()) server.urls.push_back(url.string());
      else if (urls.is_string())
        server.urls.push_back(urls.string());
      else
        urls.fail("must be a string or a list of strings");
      server.username = view.member("username").optional_string();
      server.credential = view.member("credential").optional_string();
      servers.push_back(std::move(server));
    };
    // The older sibling of the endpoint gives a single server in place of the list.
    View list = root.member("iceServers");
    if (list.is_object()) return read_server(list);
    for (const View& item : list.items()) read_server(item);
  });
}

Result<StreamDocument> read_stream_document(std::string_view text) {
  SyntaxLimits limits;
  limits.max_bytes = kMaxStreamDocumentBytes;
  return read_object<StreamDocument>(
      text,
      [](const View& root, StreamDocument& document) {
        View id = root.member("sessionId");
        document.session_id = id.string();
        if (document.session_id.empty()) id.fail("must not be empty");
        for (const View& item : root.member("tracks").items()) {
          if (!item.expect_object()) continue;
          View name = item.member("name");
          StreamTrack track{name.string(), item.member("kind").choice({"audio", "video"})};
          if (track.name.empty()) name.fail("must not be empty");
          document.tracks.push_back(std::move(track));
        }
      },
      limits);
}

ApiError read_api_error(std::string_view text) {
  auto error = read_object<ApiError>(text, [](const View& root, ApiError& error) {
    error = error_pair(root);
    View list = root.member("errors");
    if (error || !list.is_array()) return;
    for (const View& item : list.items()) {
      error.code = kUnknownCode;
      if (error.description.empty() && item.member("message").is_string())
        error.description = sanitise(item.member("message").string());
    }
  });
  return error ? *error : ApiError{};
}

}  // namespace cfr::json
