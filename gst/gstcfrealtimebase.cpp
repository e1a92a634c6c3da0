#include "gstcfrealtimebase.h"

#include <gio/gio.h>

#include <chrono>
#include <future>
#include <thread>

#include "api/soup_http.h"

GST_DEBUG_CATEGORY_STATIC(cf_realtime_base_debug);
#define GST_CAT_DEFAULT cf_realtime_base_debug

namespace {

constexpr unsigned kStopTimeoutMs = 500;
constexpr unsigned kDisposeTimeoutMs = 300;

enum { SIGNAL_REQUEST_TOKEN, SIGNAL_COUNT };
guint signals[SIGNAL_COUNT];

std::string from_environment(const char* name) {
  const char* value = g_getenv(name);
  return value ? value : "";
}

std::string host_of(const std::string& url) {
  g_autoptr(GUri) uri = g_uri_parse(url.c_str(), G_URI_FLAGS_NONE, nullptr);
  const char* host = uri ? g_uri_get_host(uri) : nullptr;
  return host ? host : "";
}

bool is_loopback(const std::string& host) {
  if (g_ascii_strcasecmp(host.c_str(), "localhost") == 0) return true;
  g_autoptr(GInetAddress) address = g_inet_address_new_from_string(host.c_str());
  return address && g_inet_address_get_is_loopback(address);
}

// webrtcbin refuses what this refuses, without a word to the user.
bool is_turn_uri(const std::string& text) {
  g_autoptr(GUri) uri =
      g_uri_parse(text.c_str(), GUriFlags(G_URI_FLAGS_HAS_PASSWORD | G_URI_FLAGS_ENCODED), nullptr);
  if (!uri) return false;
  const std::string scheme = g_uri_get_scheme(uri);
  auto given = [](const char* part) { return part && *part; };
  return (scheme == "turn" || scheme == "turns") && given(g_uri_get_host(uri)) &&
         given(g_uri_get_user(uri)) && given(g_uri_get_password(uri));
}

cfr::Error config_error(std::string message) {
  cfr::Error error;
  error.kind = cfr::ErrorKind::config;
  error.message = std::move(message);
  return error;
}

// A secret from its property, else its file, else the environment; "" if none is set.
cfr::Result<std::string> secret(const char* property, const std::string& value,
                                const std::string& file, const char* variable) {
  if (!value.empty()) return value;
  if (file.empty()) return from_environment(variable);
  g_autofree char* contents = nullptr;
  g_autoptr(GError) error = nullptr;
  if (!g_file_get_contents(file.c_str(), &contents, nullptr, &error))
    return config_error(std::string(property) + "-file cannot be read: " + error->message + ".");
  std::string text = g_strstrip(contents);
  if (text.empty()) return config_error("The file " + file + " of " + property + "-file is empty.");
  return text;
}

struct Domain {
  GQuark domain;
  int code;
};

Domain domain_of(cfr::ErrorKind kind, bool is_source, bool was_connected) {
  switch (kind) {
    case cfr::ErrorKind::config: return {GST_RESOURCE_ERROR, GST_RESOURCE_ERROR_SETTINGS};
    case cfr::ErrorKind::unauthorized:
      return {GST_RESOURCE_ERROR, GST_RESOURCE_ERROR_NOT_AUTHORIZED};
    case cfr::ErrorKind::gone:
    case cfr::ErrorKind::not_yet: return {GST_RESOURCE_ERROR, GST_RESOURCE_ERROR_NOT_FOUND};
    case cfr::ErrorKind::busy: return {GST_RESOURCE_ERROR, GST_RESOURCE_ERROR_BUSY};
    case cfr::ErrorKind::unreachable:
    case cfr::ErrorKind::timeout:
      if (was_connected)
        return {GST_RESOURCE_ERROR, is_source ? GST_RESOURCE_ERROR_READ : GST_RESOURCE_ERROR_WRITE};
      return {GST_RESOURCE_ERROR,
              is_source ? GST_RESOURCE_ERROR_OPEN_READ : GST_RESOURCE_ERROR_OPEN_WRITE};
    case cfr::ErrorKind::protocol: return {GST_STREAM_ERROR, GST_STREAM_ERROR_FORMAT};
    case cfr::ErrorKind::peer: return {GST_STREAM_ERROR, GST_STREAM_ERROR_FAILED};
    case cfr::ErrorKind::rejected:
    case cfr::ErrorKind::server:
    case cfr::ErrorKind::cancelled: break;
  }
  return {GST_RESOURCE_ERROR, GST_RESOURCE_ERROR_FAILED};
}

}  // namespace

GType gst_cf_realtime_connection_state_get_type() {
  static gsize type = 0;
  if (g_once_init_enter(&type)) {
    using cfr::ConnectionState;
    static const GEnumValue values[] = {
        {int(ConnectionState::fresh), "Not started", "new"},
        {int(ConnectionState::connecting), "Connecting for the first time", "connecting"},
        {int(ConnectionState::connected), "Media can flow", "connected"},
        {int(ConnectionState::suspect), "The other end is silent", "suspect"},
        {int(ConnectionState::reconnecting), "Building a new connection", "reconnecting"},
        {int(ConnectionState::failed), "Given up", "failed"},
        {int(ConnectionState::closed), "Stopped", "closed"},
        {0, nullptr, nullptr}};
    g_once_init_leave(&type, g_enum_register_static("GstCfRealtimeConnectionState", values));
  }
  return type;
}

namespace cfr {

ElementState::ElementState(GstCfRealtimeBase* element, bool is_source)
    : element_(element), is_source_(is_source) {
  settings_.api_url = kDefaultApiUrl;
  settings_.stun_server = kDefaultStunServer;
}

ElementState::~ElementState() = default;

void ElementState::post(std::function<void(Session&)> task) {
  std::shared_ptr<Worker> worker;
  GST_OBJECT_LOCK(element_);
  worker = worker_;
  unsigned run = run_;
  GST_OBJECT_UNLOCK(element_);
  if (!worker) return;
  worker->post([this, run, task = std::move(task)] {
    GST_OBJECT_LOCK(element_);
    bool current = run == run_;
    GST_OBJECT_UNLOCK(element_);
    if (current && session_) task(*session_);
  });
}

std::string ElementState::session_id() const {
  GST_OBJECT_LOCK(element_);
  std::string id = session_id_;
  GST_OBJECT_UNLOCK(element_);
  return id;
}

bool ElementState::running() const {
  GST_OBJECT_LOCK(element_);
  bool running = worker_ != nullptr;
  GST_OBJECT_UNLOCK(element_);
  return running;
}

void ElementState::call_async(std::function<void()> task) {
  GST_OBJECT_LOCK(element_);
  unsigned run = run_;
  GST_OBJECT_UNLOCK(element_);
  struct Call {
    ElementState* state;
    unsigned run;
    std::function<void()> task;
  };
  gst_element_call_async(
      GST_ELEMENT_CAST(element_),
      [](GstElement* element, gpointer data) {
        auto* call = static_cast<Call*>(data);
        GST_OBJECT_LOCK(element);
        bool current = call->state->run_ == call->run && call->state->worker_;
        GST_OBJECT_UNLOCK(element);
        if (current) call->task();
      },
      new Call{this, run, std::move(task)}, [](gpointer data) { delete static_cast<Call*>(data); });
}

// --- start and stop --------------------------------------------------------------------------

ElementSettings ElementState::settings() const {
  GST_OBJECT_LOCK(element_);
  ElementSettings copy = settings_;
  GST_OBJECT_UNLOCK(element_);
  return copy;
}

Result<SessionSettings> ElementState::session_settings(std::string* ca_file) {
  ElementSettings given = this->settings();
  GST_OBJECT_LOCK(element_);
  bool api_url_set = api_url_set_;
  GST_OBJECT_UNLOCK(element_);
  SessionSettings settings;
  std::string url = from_environment("CFREALTIME_API_URL");
  if (api_url_set || url.empty()) url = given.api_url;
  auto checked = check_api_url(url);
  if (!checked)
    return config_error(checked.error().message + " The property api-url looks like " +
                        kDefaultApiUrl + ".");
  if (checked->find('?') != std::string::npos)
    return config_error("api-url must not have a query (?): the API's paths are added to it.");
  settings.api.api_url = *checked;

  settings.api.app_id = given.app_id.empty() ? from_environment("CFREALTIME_APP_ID") : given.app_id;
  if (settings.api.app_id.empty())
    return config_error(
        "No app id. Set the property app-id or the environment variable CFREALTIME_APP_ID.");

  auto app_secret =
      secret("app-secret", given.app_secret, given.app_secret_file, "CFREALTIME_APP_SECRET");
  if (!app_secret) return app_secret.error();
  settings.api.token = *app_secret;
  // A proxy of the user's own may add the secret; the service itself never does without.
  if (settings.api.token.empty() && host_of(settings.api.api_url) == host_of(kDefaultApiUrl))
    return config_error(
        "No app secret. Set CFREALTIME_APP_SECRET in the environment, or one of the properties "
        "app-secret-file and app-secret.");

  settings.peer.stun_server = given.stun_server;
  settings.peer.relay_only = given.relay_only;
  settings.peer.loopback = is_loopback(host_of(settings.api.api_url));
  // No STUN server can see how this machine looks from its own loopback.
  if (settings.peer.loopback) settings.peer.stun_server.clear();
  settings.negotiator.max_retries = given.max_retries;
  // A track that is not there yet is asked for every few seconds at the longest.
  settings.negotiator.pull_backoff = {500, 4000};
  settings.negotiator.seed = (uint64_t(g_random_int()) << 32) | g_random_int();
  settings.retry_timeout_ms = given.retry_timeout_s * 1000;
  settings.turn_ttl_s = given.turn_ttl_s;
  settings.turn_key_id =
      given.turn_key_id.empty() ? from_environment("CFREALTIME_TURN_KEY_ID") : given.turn_key_id;
  if (!settings.turn_key_id.empty()) {
    auto token = secret("turn-key-token", given.turn_key_token, given.turn_key_token_file,
                        "CFREALTIME_TURN_KEY_TOKEN");
    if (!token) return token.error();
    if (token->empty())
      return config_error(
          "turn-key-id is set but no TURN token. Set CFREALTIME_TURN_KEY_TOKEN in the environment, "
          "or one of the properties turn-key-token-file and turn-key-token.");
    settings.turn_key_token = *token;
  }
  g_auto(GStrv) turn_servers = g_strsplit(given.turn_servers.c_str(), ",", -1);
  for (char** server = turn_servers; *server; ++server) {
    std::string uri = g_strstrip(*server);
    if (uri.empty()) continue;
    if (!is_turn_uri(uri))
      return config_error(
          "turn-servers is a list of turn://user:password@host:port?transport=udp, separated by "
          "commas (turns:// for TLS; user and password percent-encoded).");
    settings.peer.turn_servers.push_back(uri);
  }
  if (given.relay_only && settings.turn_key_id.empty() && settings.peer.turn_servers.empty())
    return config_error(
        "ice-transport-policy=relay needs a TURN server: set turn-key-id or turn-servers.");

  settings.stream.url = given.stream_url;
  settings.follow_stream = is_source_;
  if (!given.stream_url.empty()) {
    auto stream_url = check_api_url(given.stream_url);
    if (!stream_url) return config_error("stream-url: " + stream_url.error().message);
    auto token = secret("stream-token", given.stream_token, given.stream_token_file,
                        "CFREALTIME_STREAM_TOKEN");
    if (!token) return token.error();
    settings.stream.token = *token;
  }
  *ca_file = given.tls_ca_file;
  adjust(settings);
  return settings;
}

bool ElementState::add_webrtcbin() {
  GstElement* webrtcbin = gst_element_factory_make("webrtcbin", nullptr);
  if (!webrtcbin) {
    GST_ELEMENT_ERROR(element_, CORE, MISSING_PLUGIN,
                      ("The element webrtcbin is missing. Install gstreamer1.0-plugins-bad and "
                       "gstreamer1.0-nice."),
                      (nullptr));
    return false;
  }
  webrtcbin_ = gref<GstElement>::ref(webrtcbin);
  gst_bin_add(bin(), webrtcbin);
  return true;
}

bool ElementState::start() {
  std::string ca_file;
  auto settings = session_settings(&ca_file);
  if (!settings) {
    post_error(settings.error(), false);
    return false;
  }
  if (!add_webrtcbin()) return false;
  auto worker = std::make_shared<Worker>("cfrealtime");
  worker_ptr_ = worker.get();
  worker->post([this, own = worker.get(), settings = std::move(*settings), ca_file]() mutable {
    auto http = make_soup_http({ca_file, "cfrealtime/" PACKAGE_VERSION});
    if (!http) return on_error(http.error());
    session_ = std::make_shared<Session>(*own, std::move(settings), std::move(*http), *this);
    on_started(*session_);
  });
  GST_OBJECT_LOCK(element_);
  worker_ = std::move(worker);
  was_connected_ = false;
  sessions_ = 0;
  candidate_pair_ = {};
  ++run_;
  GST_OBJECT_UNLOCK(element_);
  return true;
}

// The only wait of ours: what runs on the worker never blocks, so this is short.
void ElementState::stop() {
  if (!worker_ptr_) return;
  // What ends is this run's; the application may begin another before it has ended.
  auto end = [this, worker = worker_ptr_] {
    auto session = std::move(session_);
    session_.reset();
    if (!session) return worker->quit();
    session->stop(kStopTimeoutMs, [worker, session] {
      // Not from within the session's own callback.
      worker->post([worker, session = session]() mutable {
        session.reset();
        worker->quit();
      });
    });
  };
  if (worker_ptr_->is_current())
    end();  // the application stops us in a handler of ours
  else
    worker_ptr_->call(end);
  on_peer_dropped();
}

void ElementState::stopped() {
  std::shared_ptr<Worker> worker;
  GST_OBJECT_LOCK(element_);
  worker = std::move(worker_);
  worker_.reset();
  ++run_;
  GST_OBJECT_UNLOCK(element_);
  if (worker) {
    if (worker->is_current()) {
      gst_object_ref(element_);
      std::thread([worker = std::move(worker), element = element_]() mutable {
        worker->join();
        worker.reset();
        gst_object_unref(element);
      }).detach();
    } else {
      worker->join();
    }
  }
  if (webrtcbin_) end_webrtcbin();
  on_stopped();
}

// In NULL webrtcbin waits for what its own thread is at: a first offer loads plugins, which on a
// small or busy machine takes seconds. We wait for that, but not for ever.
void ElementState::end_webrtcbin() {
  gst_bin_remove(bin(), webrtcbin_.get());
  auto ended = std::make_shared<std::promise<void>>();
  std::future<void> end = ended->get_future();
  std::thread([ended, webrtcbin = std::move(webrtcbin_)]() mutable {
    dispose_webrtcbin(webrtcbin.get());
    webrtcbin.reset();
    ended->set_value();
  }).detach();
  webrtcbin_.reset();
  if (end.wait_for(std::chrono::milliseconds(kDisposeTimeoutMs)) != std::future_status::ready)
    GST_INFO_OBJECT(element_, "webrtcbin is busy; it ends by itself");
}

GstStateChangeReturn ElementState::change_state(
    GstStateChange transition, const std::function<GstStateChangeReturn()>& chain_up) {
  switch (transition) {
    case GST_STATE_CHANGE_NULL_TO_READY: warm_up_dtls(); break;
    case GST_STATE_CHANGE_READY_TO_PAUSED:
      if (!start()) return GST_STATE_CHANGE_FAILURE;
      break;
    case GST_STATE_CHANGE_PAUSED_TO_READY: stop(); break;
    default: break;
  }
  GstStateChangeReturn result = chain_up();
  switch (transition) {
    case GST_STATE_CHANGE_READY_TO_PAUSED:
      if (result == GST_STATE_CHANGE_FAILURE) {
        stop();
        stopped();
        return result;
      }
      post([webrtcbin = webrtcbin_](Session& session) { session.set_webrtcbin(webrtcbin.get()); });
      return is_source_ ? GST_STATE_CHANGE_NO_PREROLL : GST_STATE_CHANGE_SUCCESS;
    case GST_STATE_CHANGE_PLAYING_TO_PAUSED:
      if (result == GST_STATE_CHANGE_FAILURE) return result;
      return is_source_ ? GST_STATE_CHANGE_NO_PREROLL : GST_STATE_CHANGE_SUCCESS;
    case GST_STATE_CHANGE_PAUSED_TO_PLAYING:
      return result == GST_STATE_CHANGE_NO_PREROLL ? GST_STATE_CHANGE_SUCCESS : result;
    case GST_STATE_CHANGE_PAUSED_TO_READY: stopped(); break;
    default: break;
  }
  return result;
}

// --- webrtcbin -------------------------------------------------------------------------------

void ElementState::while_webrtcbin_plays(const std::function<void()>& task) {
  // Not beside a change of state, which moves it anyway.
  const bool settled = GST_STATE_TRYLOCK(element_);
  const bool paused = settled && webrtcbin_ && GST_STATE(webrtcbin_.get()) == GST_STATE_PAUSED;
  if (paused) gst_element_set_state(webrtcbin_.get(), GST_STATE_PLAYING);
  task();
  if (paused) gst_element_set_state(webrtcbin_.get(), GST_STATE_PAUSED);
  if (settled) GST_STATE_UNLOCK(element_);
}

void ElementState::on_new_peer_needed() {
  on_peer_dropped();
  call_async([this] {
    gref<GstElement> old, fresh;
    GST_STATE_LOCK(element_);
    if (running()) {
      old = webrtcbin_;
      if (old) gst_bin_remove(bin(), old.get());
      webrtcbin_.reset();
      if (add_webrtcbin()) {
        fresh = webrtcbin_;
        gst_element_sync_state_with_parent(fresh.get());
      }
    }
    GST_STATE_UNLOCK(element_);
    if (fresh) post([fresh](Session& session) { session.set_webrtcbin(fresh.get()); });
    // Outside the lock: should webrtcbin hang here, only this thread does.
    if (old) dispose_webrtcbin(old.get());
  });
}

// The file may hold a newer secret, and the application may know one; both may take their time.
bool ElementState::on_token_refused() {
  ElementSettings given = settings();
  bool from_file = given.app_secret.empty() && !given.app_secret_file.empty();
  bool handled = g_signal_has_handler_pending(element_, signals[SIGNAL_REQUEST_TOKEN], 0, FALSE);
  if (!from_file && !handled) return false;
  call_async([this, given, from_file, handled] {
    std::string token;
    if (from_file) {
      auto read = secret("app-secret", "", given.app_secret_file, "");
      if (read) token = *read;
    }
    if (handled) {
      g_autofree char* answer = nullptr;
      g_signal_emit(element_, signals[SIGNAL_REQUEST_TOKEN], 0, &answer);
      if (answer) token = answer;
    }
    post([token](Session& session) { session.token_renewed(token); });
  });
  return true;
}

bool ElementState::swallow_message(GstMessage* message) {
  GstMessageType type = GST_MESSAGE_TYPE(message);
  if (type != GST_MESSAGE_ERROR && type != GST_MESSAGE_WARNING && type != GST_MESSAGE_EOS)
    return false;
  gref<GstElement> inside;
  for (GstObject* object = GST_MESSAGE_SRC(message); object; object = GST_OBJECT_PARENT(object)) {
    GstElementFactory* factory =
        GST_IS_ELEMENT(object) ? gst_element_get_factory(GST_ELEMENT_CAST(object)) : nullptr;
    if (factory && g_str_equal(GST_OBJECT_NAME(factory), "webrtcbin")) {
      inside = gref<GstElement>::ref(GST_ELEMENT_CAST(object));
      break;
    }
  }
  if (!inside) return false;
  if (type == GST_MESSAGE_ERROR) {
    g_autoptr(GError) error = nullptr;
    g_autofree char* debug = nullptr;
    gst_message_parse_error(message, &error, &debug);
    GST_INFO_OBJECT(element_, "webrtcbin failed: %s (%s)", error->message, debug);
    std::string what = error->message;
    post([what](Session& session) { session.webrtcbin_failed(what); });
  }
  return true;
}

// --- what the user sees ----------------------------------------------------------------------

void ElementState::on_connection_state(ConnectionState state) {
  GST_OBJECT_LOCK(element_);
  connection_ = state;
  was_connected_ = was_connected_ || state == ConnectionState::connected;
  GST_OBJECT_UNLOCK(element_);
  g_object_notify(G_OBJECT(element_), "connection-state");
}

void ElementState::on_session_id(const std::string& session_id) {
  GST_OBJECT_LOCK(element_);
  session_id_ = session_id;
  candidate_pair_ = {};
  if (!session_id.empty()) ++sessions_;
  GST_OBJECT_UNLOCK(element_);
}

void ElementState::on_candidate_pair(const Peer::CandidatePair& pair) {
  GST_INFO_OBJECT(element_, "media goes from %s (%s) to %s over %s", pair.local_address.c_str(),
                  pair.local_type.c_str(), pair.remote_address.c_str(), pair.protocol.c_str());
  GST_OBJECT_LOCK(element_);
  candidate_pair_ = pair;
  GST_OBJECT_UNLOCK(element_);
}

void ElementState::on_warning(const Error& error) {
  post_error(error, true);
}

void ElementState::on_error(const Error& error) {
  post_error(error, false);
}

void ElementState::post_error(const Error& error, bool warning) {
  if (warning && error.kind == ErrorKind::cancelled) return;  // a renewal of ours
  GST_OBJECT_LOCK(element_);
  bool was_connected = was_connected_;
  GST_OBJECT_UNLOCK(element_);
  Domain domain = domain_of(error.kind, is_source_, was_connected);
  bool retryable = error.kind == ErrorKind::busy || error.kind == ErrorKind::server ||
                   error.kind == ErrorKind::unreachable || error.kind == ErrorKind::timeout ||
                   error.kind == ErrorKind::gone || error.kind == ErrorKind::not_yet;
  GstStructure* details = gst_structure_new(
      "cfrealtime", "kind", G_TYPE_STRING, to_string(error.kind), "http-status", G_TYPE_INT,
      error.http_status, "error-code", G_TYPE_STRING, error.code.c_str(), "track", G_TYPE_STRING,
      error.track.c_str(), "retryable", G_TYPE_BOOLEAN, retryable, nullptr);
  std::string debug = std::string("kind ") + to_string(error.kind);
  if (error.http_status) debug += ", HTTP " + std::to_string(error.http_status);
  if (!error.code.empty()) debug += ", code " + error.code;
  if (!error.track.empty()) debug += ", track " + error.track;
  if (!error.detail.empty()) debug += ": " + error.detail;
  if (!warning && worker_ptr_ && worker_ptr_->is_current() && session_)
    debug += "\nlast steps:\n" + session_->history();
  gst_element_message_full_with_details(
      GST_ELEMENT_CAST(element_), warning ? GST_MESSAGE_WARNING : GST_MESSAGE_ERROR, domain.domain,
      domain.code, g_strdup(error.message.c_str()), g_strdup(debug.c_str()), __FILE__, GST_FUNCTION,
      __LINE__, details);
}

}  // namespace cfr

// --- GObject ---------------------------------------------------------------------------------

G_DEFINE_ABSTRACT_TYPE(GstCfRealtimeBase, gst_cf_realtime_base, GST_TYPE_BIN)

static void gst_cf_realtime_base_set_property(GObject* object, guint id, const GValue* value,
                                              GParamSpec* pspec) {
  GST_CF_REALTIME_BASE(object)->state->set_property(id, value, pspec);
}

static void gst_cf_realtime_base_get_property(GObject* object, guint id, GValue* value,
                                              GParamSpec* pspec) {
  GST_CF_REALTIME_BASE(object)->state->get_property(id, value, pspec);
}

static GstStateChangeReturn gst_cf_realtime_base_change_state(GstElement* element,
                                                              GstStateChange transition) {
  return GST_CF_REALTIME_BASE(element)->state->change_state(transition, [=] {
    return GST_ELEMENT_CLASS(gst_cf_realtime_base_parent_class)->change_state(element, transition);
  });
}

static void gst_cf_realtime_base_handle_message(GstBin* bin, GstMessage* message) {
  if (GST_CF_REALTIME_BASE(bin)->state->swallow_message(message)) {
    gst_message_unref(message);
    return;
  }
  GST_BIN_CLASS(gst_cf_realtime_base_parent_class)->handle_message(bin, message);
}

static void gst_cf_realtime_base_finalize(GObject* object) {
  delete GST_CF_REALTIME_BASE(object)->state;
  G_OBJECT_CLASS(gst_cf_realtime_base_parent_class)->finalize(object);
}

static void gst_cf_realtime_base_init(GstCfRealtimeBase*) {}

static void gst_cf_realtime_base_class_init(GstCfRealtimeBaseClass* klass) {
  GObjectClass* object_class = G_OBJECT_CLASS(klass);
  GstElementClass* element_class = GST_ELEMENT_CLASS(klass);
  object_class->set_property = gst_cf_realtime_base_set_property;
  object_class->get_property = gst_cf_realtime_base_get_property;
  object_class->finalize = gst_cf_realtime_base_finalize;
  element_class->change_state = gst_cf_realtime_base_change_state;
  GST_BIN_CLASS(klass)->handle_message = gst_cf_realtime_base_handle_message;

  cfr::ElementState::install_properties(object_class);
  /**
   * GstCfRealtimeBase::request-token:
   *
   * The API refused the token (HTTP 401). Return another one, for instance a fresh short-lived
   * token of your own backend, or NULL to give up. Emitted on a thread where it may take its time.
   */
  signals[SIGNAL_REQUEST_TOKEN] =
      g_signal_new("request-token", G_TYPE_FROM_CLASS(klass), G_SIGNAL_RUN_LAST, 0,
                   g_signal_accumulator_first_wins, nullptr, nullptr, G_TYPE_STRING, 0);

  gst_type_mark_as_plugin_api(gst_cf_realtime_base_get_type(), GstPluginAPIFlags(0));
  gst_type_mark_as_plugin_api(gst_cf_realtime_connection_state_get_type(), GstPluginAPIFlags(0));
  GST_DEBUG_CATEGORY_INIT(cf_realtime_base_debug, "cfrealtime", 0, "Cloudflare Realtime sessions");
}
