// The properties that cfrealtimesink and cfrealtimesrc share.
#include "gstcfrealtimebase.h"

namespace {

enum {
  PROP_0,
  PROP_APP_ID,
  PROP_APP_SECRET,
  PROP_APP_SECRET_FILE,
  PROP_API_URL,
  PROP_STUN_SERVER,
  PROP_ICE_TRANSPORT_POLICY,
  PROP_TLS_CA_FILE,
  PROP_CONNECTION_STATE,
  PROP_MAX_RETRIES,
  PROP_RETRY_TIMEOUT,
  PROP_TURN_KEY_ID,
  PROP_TURN_KEY_TOKEN,
  PROP_TURN_KEY_TOKEN_FILE,
  PROP_TURN_SERVERS,
  PROP_TURN_TTL,
  PROP_STREAM_URL,
  PROP_STREAM_TOKEN,
  PROP_STREAM_TOKEN_FILE,
  PROP_STATS,
};
enum GstCfRealtimeIceTransportPolicy { ICE_TRANSPORT_POLICY_ALL, ICE_TRANSPORT_POLICY_RELAY };

GType gst_cf_realtime_ice_transport_policy_get_type() {
  static gsize type = 0;
  if (g_once_init_enter(&type)) {
    static const GEnumValue values[] = {
        {ICE_TRANSPORT_POLICY_ALL, "All candidates", "all"},
        {ICE_TRANSPORT_POLICY_RELAY, "Only TURN candidates", "relay"},
        {0, nullptr, nullptr}};
    g_once_init_leave(&type, g_enum_register_static("GstCfRealtimeIceTransportPolicy", values));
  }
  return type;
}

}  // namespace

namespace cfr {

void ElementState::set_property(guint id, const GValue* value, GParamSpec* pspec) {
  auto text = [value] {
    const char* string = g_value_get_string(value);
    return std::string(string ? string : "");
  };
  GST_OBJECT_LOCK(element_);
  switch (id) {
    case PROP_APP_ID: settings_.app_id = text(); break;
    case PROP_APP_SECRET: settings_.app_secret = text(); break;
    case PROP_APP_SECRET_FILE: settings_.app_secret_file = text(); break;
    case PROP_API_URL:
      api_url_set_ = g_value_get_string(value) != nullptr;
      settings_.api_url = api_url_set_ ? text() : kDefaultApiUrl;
      break;
    case PROP_STUN_SERVER: settings_.stun_server = text(); break;
    case PROP_ICE_TRANSPORT_POLICY:
      settings_.relay_only = g_value_get_enum(value) == ICE_TRANSPORT_POLICY_RELAY;
      break;
    case PROP_TLS_CA_FILE: settings_.tls_ca_file = text(); break;
    case PROP_MAX_RETRIES: settings_.max_retries = g_value_get_int(value); break;
    case PROP_RETRY_TIMEOUT: settings_.retry_timeout_s = g_value_get_uint(value); break;
    case PROP_TURN_KEY_ID: settings_.turn_key_id = text(); break;
    case PROP_TURN_KEY_TOKEN: settings_.turn_key_token = text(); break;
    case PROP_TURN_KEY_TOKEN_FILE: settings_.turn_key_token_file = text(); break;
    case PROP_TURN_SERVERS: settings_.turn_servers = text(); break;
    case PROP_TURN_TTL: settings_.turn_ttl_s = g_value_get_uint(value); break;
    case PROP_STREAM_URL: settings_.stream_url = text(); break;
    case PROP_STREAM_TOKEN: settings_.stream_token = text(); break;
    case PROP_STREAM_TOKEN_FILE: settings_.stream_token_file = text(); break;
    default: G_OBJECT_WARN_INVALID_PROPERTY_ID(element_, id, pspec);
  }
  GST_OBJECT_UNLOCK(element_);
}

void ElementState::get_property(guint id, GValue* value, GParamSpec* pspec) {
  auto give = [value](const std::string& text) {
    g_value_set_string(value, text.empty() ? nullptr : text.c_str());
  };
  GST_OBJECT_LOCK(element_);
  switch (id) {
    case PROP_APP_ID: give(settings_.app_id); break;
    case PROP_APP_SECRET_FILE: give(settings_.app_secret_file); break;
    case PROP_API_URL: give(settings_.api_url); break;
    case PROP_STUN_SERVER: give(settings_.stun_server); break;
    case PROP_ICE_TRANSPORT_POLICY:
      g_value_set_enum(
          value, settings_.relay_only ? ICE_TRANSPORT_POLICY_RELAY : ICE_TRANSPORT_POLICY_ALL);
      break;
    case PROP_TLS_CA_FILE: give(settings_.tls_ca_file); break;
    case PROP_CONNECTION_STATE: g_value_set_enum(value, int(connection_)); break;
    case PROP_MAX_RETRIES: g_value_set_int(value, settings_.max_retries); break;
    case PROP_RETRY_TIMEOUT: g_value_set_uint(value, settings_.retry_timeout_s); break;
    case PROP_TURN_KEY_ID: give(settings_.turn_key_id); break;
    case PROP_TURN_KEY_TOKEN_FILE: give(settings_.turn_key_token_file); break;
    case PROP_TURN_TTL: g_value_set_uint(value, settings_.turn_ttl_s); break;
    case PROP_STREAM_URL: give(settings_.stream_url); break;
    case PROP_STREAM_TOKEN_FILE: give(settings_.stream_token_file); break;
    case PROP_STATS: g_value_take_boxed(value, stats()); break;
    default: G_OBJECT_WARN_INVALID_PROPERTY_ID(element_, id, pspec);
  }
  GST_OBJECT_UNLOCK(element_);
}

GstStructure* ElementState::stats() const {
  GstStructure* stats =
      gst_structure_new("application/x-cfrealtime-stats", "connection-state", G_TYPE_STRING,
                        to_string(connection_), "session-id", G_TYPE_STRING, session_id_.c_str(),
                        "sessions", G_TYPE_UINT, sessions_, nullptr);
  const Peer::CandidatePair& pair = candidate_pair_;
  if (pair.local_type.empty()) return stats;
  g_autoptr(GstStructure) candidates = gst_structure_new(
      "candidate-pair", "local-type", G_TYPE_STRING, pair.local_type.c_str(), "local-address",
      G_TYPE_STRING, pair.local_address.c_str(), "remote-type", G_TYPE_STRING,
      pair.remote_type.c_str(), "remote-address", G_TYPE_STRING, pair.remote_address.c_str(),
      "protocol", G_TYPE_STRING, pair.protocol.c_str(), nullptr);
  gst_structure_set(stats, "candidate-pair", GST_TYPE_STRUCTURE, candidates, nullptr);
  return stats;
}

void ElementState::install_properties(GObjectClass* object_class) {
  const auto rw = GParamFlags(G_PARAM_READWRITE | G_PARAM_STATIC_STRINGS | GST_PARAM_MUTABLE_READY);
  const auto wo = GParamFlags(G_PARAM_WRITABLE | G_PARAM_STATIC_STRINGS | GST_PARAM_MUTABLE_READY);
  const auto ro = GParamFlags(G_PARAM_READABLE | G_PARAM_STATIC_STRINGS);
  g_object_class_install_property(
      object_class, PROP_APP_ID,
      g_param_spec_string("app-id", "App id",
                          "Id of the Realtime SFU app, from the Cloudflare dashboard "
                          "(NULL = environment variable CFREALTIME_APP_ID)",
                          nullptr, rw));
  g_object_class_install_property(
      object_class, PROP_APP_SECRET,
      g_param_spec_string(
          "app-secret", "App secret",
          "Bearer token of the app, or of your own proxy at api-url; can be "
          "written but not read (NULL = app-secret-file, then environment variable "
          "CFREALTIME_APP_SECRET)",
          nullptr,
          GParamFlags(G_PARAM_WRITABLE | G_PARAM_STATIC_STRINGS | GST_PARAM_MUTABLE_READY)));
  g_object_class_install_property(
      object_class, PROP_APP_SECRET_FILE,
      g_param_spec_string("app-secret-file", "App secret file",
                          "File that holds the app secret and nothing else (white space around it "
                          "is ignored); read when the element starts, and again when the secret "
                          "is refused",
                          nullptr, rw));
  g_object_class_install_property(
      object_class, PROP_API_URL,
      g_param_spec_string("api-url", "API URL",
                          "Base URL of the Realtime API: http or https, up to and including /v1 "
                          "(when not set, environment variable CFREALTIME_API_URL goes first)",
                          kDefaultApiUrl, rw));
  g_object_class_install_property(
      object_class, PROP_STUN_SERVER,
      g_param_spec_string("stun-server", "STUN server",
                          "STUN server as stun://host:port; never waited for (NULL = none)",
                          kDefaultStunServer, rw));
  g_object_class_install_property(
      object_class, PROP_ICE_TRANSPORT_POLICY,
      g_param_spec_enum("ice-transport-policy", "ICE transport policy",
                        "Which ICE candidates may be used (RFC 8829, section 4.1.1)",
                        gst_cf_realtime_ice_transport_policy_get_type(), ICE_TRANSPORT_POLICY_ALL,
                        rw));
  g_object_class_install_property(
      object_class, PROP_TLS_CA_FILE,
      g_param_spec_string("tls-ca-file", "TLS CA file",
                          "PEM file of the certificate authorities to trust for the API "
                          "(NULL = the system's); certificates are always verified",
                          nullptr, rw));
  g_object_class_install_property(object_class, PROP_CONNECTION_STATE,
                                  g_param_spec_enum("connection-state", "Connection state",
                                                    "State of the connection to the SFU; notifies",
                                                    GST_TYPE_CF_REALTIME_CONNECTION_STATE,
                                                    int(cfr::ConnectionState::fresh), ro));
  g_object_class_install_property(
      object_class, PROP_MAX_RETRIES,
      g_param_spec_int("max-retries", "Maximum retries",
                       "Attempts in a row to reach the API or rebuild the connection before an "
                       "error is posted (-1 = for ever, 0 = none)",
                       -1, G_MAXINT, -1, rw));
  g_object_class_install_property(
      object_class, PROP_RETRY_TIMEOUT,
      g_param_spec_uint("retry-timeout", "Retry timeout",
                        "Seconds without a connection after which an error is posted "
                        "(0 = for ever)",
                        0, G_MAXUINT / 1000, 0, rw));

  g_object_class_install_property(
      object_class, PROP_TURN_KEY_ID,
      g_param_spec_string("turn-key-id", "TURN key id",
                          "Id of a Realtime TURN key; its credentials are fetched for each "
                          "connection (NULL = environment variable CFREALTIME_TURN_KEY_ID, else no "
                          "TURN)",
                          nullptr, rw));
  g_object_class_install_property(
      object_class, PROP_TURN_KEY_TOKEN,
      g_param_spec_string("turn-key-token", "TURN key token",
                          "API token of the TURN key; can be written but not read (NULL = "
                          "turn-key-token-file, then environment variable "
                          "CFREALTIME_TURN_KEY_TOKEN)",
                          nullptr, wo));
  g_object_class_install_property(
      object_class, PROP_TURN_KEY_TOKEN_FILE,
      g_param_spec_string("turn-key-token-file", "TURN key token file",
                          "File that holds the API token of the TURN key", nullptr, rw));
  // Written only, since it holds passwords.
  g_object_class_install_property(
      object_class, PROP_TURN_SERVERS,
      g_param_spec_string("turn-servers", "TURN servers",
                          "TURN servers of your own, separated by commas: "
                          "turn://user:password@host:port?transport=udp (or tcp; turns:// for TLS; "
                          "user and password percent-encoded); can be written but not read",
                          nullptr, wo));
  g_object_class_install_property(
      object_class, PROP_TURN_TTL,
      g_param_spec_uint("turn-ttl", "TURN TTL",
                        "Seconds that TURN credentials of turn-key-id are asked to be valid; a "
                        "relayed connection moves to new ones shortly before (at most 48 h, says "
                        "https://developers.cloudflare.com/realtime/turn/)",
                        10, 48 * 3600, 24 * 3600, rw));
  g_object_class_install_property(
      object_class, PROP_STREAM_URL,
      g_param_spec_string("stream-url", "Stream URL",
                          "URL of the stream document, which says where the stream is now: the "
                          "sink keeps it there (PUT, DELETE), the source follows it and needs no "
                          "session-id",
                          nullptr, rw));
  g_object_class_install_property(
      object_class, PROP_STREAM_TOKEN,
      g_param_spec_string("stream-token", "Stream token",
                          "Bearer token for stream-url; can be written but not read (NULL = "
                          "stream-token-file, then environment variable CFREALTIME_STREAM_TOKEN)",
                          nullptr, wo));
  g_object_class_install_property(
      object_class, PROP_STREAM_TOKEN_FILE,
      g_param_spec_string("stream-token-file", "Stream token file",
                          "File that holds the bearer token for stream-url", nullptr, rw));

  g_object_class_install_property(
      object_class, PROP_STATS,
      g_param_spec_boxed("stats", "Statistics",
                         "connection-state, session-id (of this element's own session), sessions "
                         "(number of them since the start), and once connected candidate-pair: "
                         "local-type (host, srflx, prflx, relay), local-address, remote-type, "
                         "remote-address, protocol (of a relay: towards the TURN server)",
                         GST_TYPE_STRUCTURE, ro));

  gst_type_mark_as_plugin_api(gst_cf_realtime_ice_transport_policy_get_type(),
                              GstPluginAPIFlags(0));
}

}  // namespace cfr
