// GET /debug/requests and /debug/stats, and what tests order: faults, kills, restarts.
#include <json-glib/json-glib.h>

#include "sfu/server_inside.h"
#include "wire/json_syntax.h"

namespace cfr::sfu {

void SfuServer::Impl::handle_debug(SoupServerMessage* message, const std::string& path,
                                   const std::string& body) {
  std::string method = soup_server_message_get_method(message);
  if (path == "requests" && method == "GET") return answer(message, 200, requests());
  if (path == "stats" && method == "GET") return answer(message, 200, stats());
  if (path == "faults" && method == "POST") {
    auto fault = read_fault(body);
    if (!fault)
      return answer(message, 400, json::write(ApiError{"decoding_error", fault.error().message}));
    faults.add(*fault);
    return answer(message, 200, "{}");
  }
  if (path == "faults" && method == "DELETE") {
    faults.clear();
    for (Late& held : late) g_source_set_ready_time(held.source, 0);
    return answer(message, 200, "{}");
  }
  // A transport dies silently: POST /debug/kill/{session}, or all of them.
  if (path.rfind("kill", 0) == 0 && method == "POST") {
    std::string id = path.size() > 5 ? path.substr(5) : "";
    for (auto& [session, link] : links)
      if (id.empty() || id == session) link->transport->kill();
    return answer(message, 200, "{}");
  }
  if (path == "restart" && method == "POST") {
    state->forget_all();
    streams.clear();
    return answer(message, 200, "{}");
  }
  answer(message, 404, json::write(ApiError{"not_found", "No such endpoint"}));
}

static std::string take(JsonBuilder* builder) {
  JsonNode* root = json_builder_get_root(builder);
  g_autofree char* text = json_to_string(root, FALSE);
  json_node_unref(root);
  g_object_unref(builder);
  return text;
}

// TURN passwords that the API has given out stay out of the record.
static void redact(JsonNode* node) {
  if (JSON_NODE_HOLDS_ARRAY(node)) {
    auto each = [](JsonArray*, guint, JsonNode* element, gpointer) { redact(element); };
    json_array_foreach_element(json_node_get_array(node), each, nullptr);
  } else if (JSON_NODE_HOLDS_OBJECT(node)) {
    JsonObject* object = json_node_get_object(node);
    if (json_object_has_member(object, "credential"))
      json_object_set_string_member(object, "credential", "(redacted)");
    auto each = [](JsonObject*, const gchar*, JsonNode* member, gpointer) { redact(member); };
    json_object_foreach_member(object, each, nullptr);
  }
}

// What a client wrote may be no UTF-8.
static void add_text(JsonBuilder* builder, const std::string& text) {
  g_autofree char* valid = g_utf8_make_valid(text.data(), gssize(text.size()));
  json_builder_add_string_value(builder, valid);
}

// A body as JSON if it is JSON, and none that would be too much for the parser, else as text; left
// out if there was none.
static void add_body(JsonBuilder* builder, const char* name, const std::string& body) {
  if (body.empty()) return;
  json_builder_set_member_name(builder, name);
  g_autoptr(JsonParser) parser = json_parser_new();
  if (json::check_syntax(body).empty() &&
      json_parser_load_from_data(parser, body.data(), gssize(body.size()), nullptr) &&
      json_parser_get_root(parser)) {
    JsonNode* root = json_parser_steal_root(parser);
    redact(root);
    json_builder_add_value(builder, root);
  } else {
    add_text(builder, body);
  }
}

std::string SfuServer::Impl::requests() const {
  JsonBuilder* builder = json_builder_new();
  json_builder_begin_object(builder);
  json_builder_set_member_name(builder, "requests");
  json_builder_begin_array(builder);
  for (const RequestRecord& record : log) {
    json_builder_begin_object(builder);
    json_builder_set_member_name(builder, "time");
    json_builder_add_double_value(builder, double(record.wall_us) / 1e6);
    json_builder_set_member_name(builder, "method");
    add_text(builder, record.method);
    json_builder_set_member_name(builder, "path");
    add_text(builder, record.path);
    json_builder_set_member_name(builder, "status");
    json_builder_add_int_value(builder, record.status);
    json_builder_set_member_name(builder, "ms");
    json_builder_add_double_value(builder, record.ms);
    add_body(builder, "request", record.request);
    add_body(builder, "response", record.response);
    json_builder_end_object(builder);
  }
  json_builder_end_array(builder);
  json_builder_end_object(builder);
  return take(builder);
}

std::string SfuServer::Impl::stats() const {
  JsonBuilder* builder = json_builder_new();
  auto text = [builder](const char* name, const std::string& value) {
    json_builder_set_member_name(builder, name);
    json_builder_add_string_value(builder, value.c_str());
  };
  auto number = [builder](const char* name, double value) {
    json_builder_set_member_name(builder, name);
    if (value == double(gint64(value)))
      json_builder_add_int_value(builder, gint64(value));
    else
      json_builder_add_double_value(builder, value);
  };
  auto flag = [builder](const char* name, bool value) {
    json_builder_set_member_name(builder, name);
    json_builder_add_boolean_value(builder, value);
  };
  auto ingress = forwarder->ingress_stats();
  auto egress = forwarder->egress_stats();
  json_builder_begin_object(builder);
  // Calls that were acted upon, and whose replies a fault holds back.
  json_builder_set_member_name(builder, "held");
  json_builder_begin_array(builder);
  for (const Late& each : late) add_text(builder, each.call->path);
  json_builder_end_array(builder);
  json_builder_set_member_name(builder, "sessions");
  json_builder_begin_array(builder);
  for (const auto& session : state->sessions()) {
    json_builder_begin_object(builder);
    text("id", session.id);
    flag("connected", session.connected);
    flag("gone", session.dead);
    json_builder_set_member_name(builder, "tracks");
    json_builder_begin_array(builder);
    for (const auto& track : ingress) {
      if (track.track.session != session.id) continue;
      json_builder_begin_object(builder);
      text("mid", track.track.mid);
      text("name", state->track_name(track.track));
      text("kind", track.kind);
      text("codec", track.codec);
      text("rid", track.rid);
      number("ssrc", track.ssrc);
      number("packets", double(track.packets));
      number("bytes", double(track.bytes));
      number("lost", double(track.lost));
      number("recovered", double(track.recovered));
      number("nacks", double(track.nacks));
      number("key_frame_requests", double(track.key_frame_requests));
      number("key_frames", double(track.key_frames));
      number("bitrate_bps", double(track.bitrate_bps));
      number("jitter_ms", track.jitter_ms);
      number("first_packet_us", double(track.first_packet_us));
      number("last_packet_us", double(track.last_packet_us));
      json_builder_end_object(builder);
    }
    json_builder_end_array(builder);
    json_builder_set_member_name(builder, "pulls");
    json_builder_begin_array(builder);
    for (const auto& pull : egress) {
      if (pull.puller.session != session.id) continue;
      json_builder_begin_object(builder);
      text("mid", pull.puller.mid);
      text("session", pull.source.session);
      text("name", state->track_name(pull.source));
      number("ssrc", pull.ssrc);
      number("packets", double(pull.packets));
      number("bytes", double(pull.bytes));
      number("nacks", double(pull.nacks));
      number("resent", double(pull.resent));
      number("key_frame_requests", double(pull.key_frame_requests));
      number("no_codec", double(pull.no_codec));
      text("rid", pull.rid);
      number("lost", double(pull.lost));
      number("rtt_ms", pull.rtt_ms);
      number("first_packet_us", double(pull.first_packet_us));
      number("fraction_lost", pull.fraction_lost);
      json_builder_end_object(builder);
    }
    json_builder_end_array(builder);
    json_builder_end_object(builder);
  }
  json_builder_end_array(builder);
  json_builder_end_object(builder);
  return take(builder);
}

}  // namespace cfr::sfu
