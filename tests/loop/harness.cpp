#include "loop/harness.h"

#include <gtest/gtest.h>
#include <libsoup/soup.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>

namespace cfr::test {

unsigned scaled(unsigned ms) {
  const char* scale = g_getenv("CFREALTIME_TIME_SCALE");
  return scale && *scale ? unsigned(ms * g_ascii_strtod(scale, nullptr)) : ms;
}

bool wait_until(const std::function<bool()>& done, unsigned timeout_ms) {
  gint64 deadline = g_get_monotonic_time() + gint64(scaled(timeout_ms)) * 1000;
  while (!done()) {
    if (g_get_monotonic_time() > deadline) return false;
    while (g_main_context_iteration(nullptr, FALSE)) {
    }
    // The pace of looking, not a wait for anything.
    g_usleep(5000);
  }
  return true;
}

Reply http(const std::string& method, const std::string& url, const std::string& body) {
  g_autoptr(GMainContext) context = g_main_context_new();
  g_main_context_push_thread_default(context);
  Reply result;
  {
    g_autoptr(SoupSession) session = soup_session_new();
    soup_session_set_timeout(session, 10);
    g_autoptr(SoupMessage) message = soup_message_new(method.c_str(), url.c_str());
    if (!body.empty()) {
      g_autoptr(GBytes) bytes = g_bytes_new(body.data(), body.size());
      soup_message_set_request_body_from_bytes(message, "application/json", bytes);
    }
    g_autoptr(GBytes) reply = soup_session_send_and_read(session, message, nullptr, nullptr);
    if (reply) {
      gsize size = 0;
      auto* data = static_cast<const char*>(g_bytes_get_data(reply, &size));
      if (data) result.body.assign(data, size);
      result.status = soup_message_get_status(message);
    }
  }
  g_main_context_pop_thread_default(context);
  return result;
}

// --- the SFU ---------------------------------------------------------------------------------

static std::vector<std::string> place_prefix;
static std::string place_address = "127.0.0.1";

void Sfu::place(std::vector<std::string> prefix, const std::string& address) {
  place_prefix = std::move(prefix);
  place_address = address;
}

Sfu::Sfu(std::vector<std::string> options, const std::string& secret)
    : options_(std::move(options)), secret_(secret) {
  start(0);
}

void Sfu::start(unsigned port) {
  const char* other = g_getenv("CFREALTIME_TEST_SFU");
  std::vector<std::string> words = place_prefix;
  for (std::string word :
       {std::string(other && *other ? other : SFU_PATH), std::string("--address"), place_address,
        std::string("--port"), std::to_string(port), std::string("--app-id"), std::string("demo")})
    words.push_back(std::move(word));
  words.insert(words.end(), options_.begin(), options_.end());
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  g_auto(GStrv) environment = g_get_environ();
  environment = g_environ_setenv(environment, "CFREALTIME_APP_SECRET", secret_.c_str(), TRUE);
  // of a build with the address sanitizer
  if (const char* options = g_getenv("CFREALTIME_SFU_ASAN_OPTIONS"))
    environment = g_environ_setenv(environment, "ASAN_OPTIONS", options, TRUE);
  g_autoptr(GError) error = nullptr;
  log_ = tmpfile();  // goes with its descriptor
  if (!g_spawn_async_with_pipes_and_fds(
          nullptr, argv.data(), environment,
          GSpawnFlags(G_SPAWN_DO_NOT_REAP_CHILD | G_SPAWN_SEARCH_PATH), nullptr, nullptr, -1, -1,
          log_ ? fileno(log_) : -1, nullptr, nullptr, 0, &pid_, nullptr, &out_, nullptr, &error)) {
    ADD_FAILURE() << "cannot start " << SFU_PATH << ": " << error->message;
    return;
  }
  std::string line;
  char c;
  while (read(out_, &c, 1) == 1) {
    if (c != '\n') {
      line += c;
      continue;
    }
    auto at = line.find("http://");
    if (at != std::string::npos) {
      api_url_ = line.substr(at, line.find_first_of(" \t", at) - at);
      break;
    }
    line.clear();
  }
  auto colon = api_url_.find(':', 7);
  if (colon == std::string::npos) {
    ADD_FAILURE() << "the SFU did not say where it listens";
    return;
  }
  port_ = unsigned(std::strtoul(api_url_.c_str() + colon + 1, nullptr, 10));
  g_setenv("CFREALTIME_API_URL", api_url_.c_str(), TRUE);
  g_setenv("CFREALTIME_APP_ID", "demo", TRUE);
  if (!secret_.empty()) g_setenv("CFREALTIME_APP_SECRET", secret_.c_str(), TRUE);
}

std::string Sfu::base_url() const {
  return api_url_.substr(0, api_url_.rfind("/v1"));
}

unsigned Sfu::count(const std::string& text, std::size_t from) const {
  std::string log = requests();
  unsigned found = 0;
  for (auto at = log.find(text, from); at != std::string::npos;
       at = log.find(text, at + text.size()))
    ++found;
  return found;
}

// One file a test: the validator holds every request and reply against the schemas.
void Sfu::save_requests() {
  const char* folder = g_getenv("CFREALTIME_REQUEST_LOG");
  if (!folder || !*folder) return;
  auto* test = testing::UnitTest::GetInstance()->current_test_info();
  std::filesystem::create_directories(folder);
  std::string name = test ? std::string(test->test_suite_name()) + "." + test->name() : "none";
  std::ofstream(std::string(folder) + "/" + name + "." + std::to_string(port_) + "." +
                std::to_string(g_get_monotonic_time()) + ".json")
      << requests();
}

void Sfu::kill() {
  if (!pid_) return;
  ::kill(pid_, SIGKILL);
  waitpid(pid_, nullptr, 0);
  forget();
}

void Sfu::forget() {
  g_spawn_close_pid(pid_);
  close(out_);
  if (log_) fclose(log_);
  log_ = nullptr;
  pid_ = 0;
}

// What it wrote to stderr: a sanitizer's report, or else the end.
std::string Sfu::last_words() const {
  if (!log_) return "";
  std::ostringstream all;
  rewind(log_);
  char part[4096];
  while (size_t size = fread(part, 1, sizeof part, log_)) all.write(part, std::streamsize(size));
  std::string text = all.str();
  constexpr std::size_t kShown = 12000;
  for (const char* begin : {"WARNING: ThreadSanitizer", "ERROR: ", "runtime error: "})
    if (auto at = text.find(begin); at != std::string::npos) return text.substr(at, kShown);
  return text.size() > kShown ? text.substr(text.size() - kShown) : text;
}

void Sfu::restart() {
  kill();
  start(port_);
}

void Sfu::restart(const std::string& secret) {
  secret_ = secret;
  restart();
}

Sfu::~Sfu() {
  if (!pid_) return;
  save_requests();
  ::kill(pid_, SIGTERM);
  int status = 0;
  bool ended = wait_until([&] { return waitpid(pid_, &status, WNOHANG) == pid_; }, 5000);
  EXPECT_TRUE(ended) << "the SFU does not end on SIGTERM";
  if (ended) {
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0)
        << "the SFU ended with status " << status << "\n"
        << last_words();
    forget();
  } else {
    kill();
  }
}

// --- pipelines -------------------------------------------------------------------------------

Pipeline::Pipeline(const std::string& launch, const std::string& name) {
  g_autoptr(GError) error = nullptr;
  GstElement* parsed = gst_parse_launch(launch.c_str(), &error);
  if (error) ADD_FAILURE() << launch << ": " << error->message;
  if (parsed && !GST_IS_PIPELINE(parsed)) {
    GstElement* pipeline = gst_pipeline_new(name.c_str());
    gst_bin_add(GST_BIN(pipeline), parsed);
    parsed = pipeline;
  }
  pipeline_ = gref<GstElement>::sink(parsed);
  if (!parsed) return;
  GstIterator* iterator = gst_bin_iterate_recurse(GST_BIN(parsed));
  GValue item = G_VALUE_INIT;
  while (gst_iterator_next(iterator, &item) == GST_ITERATOR_OK) {
    auto* element = static_cast<GstElement*>(g_value_get_object(&item));
    GstElementFactory* factory = gst_element_get_factory(element);
    if (factory && g_str_equal(GST_OBJECT_NAME(factory), "cfrealtimesink")) {
      g_signal_connect_swapped(
          element, "track-live",
          G_CALLBACK(+[](Pipeline* self, const char*, const char*) { ++self->tracks_live; }), this);
      g_signal_connect_swapped(
          element, "track-closed",
          G_CALLBACK(+[](Pipeline* self, const char*) { ++self->tracks_closed; }), this);
    }
    g_value_reset(&item);
  }
  g_value_unset(&item);
  gst_iterator_free(iterator);
}

Pipeline::~Pipeline() {
  if (pipeline_) stop();
}

gref<GstElement> Pipeline::element(const char* name) const {
  return gref<GstElement>::adopt(gst_bin_get_by_name(GST_BIN(pipeline_.get()), name));
}

void Pipeline::play() {
  gst_element_set_state(pipeline_.get(), GST_STATE_PLAYING);
}

Stopwatch::Stopwatch()
    : begin_us_(g_get_monotonic_time()), sleeper_([this] {
        constexpr gint64 kStepUs = 5000;
        while (!done_) {
          gint64 begin = g_get_monotonic_time();
          g_usleep(kStepUs);
          late_us_ += std::max<gint64>(g_get_monotonic_time() - begin - kStepUs, 0);
        }
      }) {}

Stopwatch::~Stopwatch() {
  done_ = true;
  sleeper_.join();
}

unsigned Stopwatch::ms() const {
  return unsigned(std::max<gint64>(g_get_monotonic_time() - begin_us_ - late_us_, 0) / 1000);
}

unsigned Pipeline::stop() {
  Stopwatch watch;
  gst_element_set_state(pipeline_.get(), GST_STATE_NULL);
  return watch.ms();
}

void Pipeline::handle(GstMessage* message) {
  auto collect = [message](std::vector<Message>& list, bool is_error) {
    g_autoptr(GError) error = nullptr;
    g_autofree char* debug = nullptr;
    const GstStructure* details = nullptr;
    if (is_error) {
      gst_message_parse_error(message, &error, &debug);
      gst_message_parse_error_details(message, &details);
    } else {
      gst_message_parse_warning(message, &error, &debug);
      gst_message_parse_warning_details(message, &details);
    }
    g_autofree char* text = details ? gst_structure_to_string(details) : nullptr;
    list.push_back(
        {error->domain, error->code, error->message, debug ? debug : "", text ? text : ""});
  };
  switch (GST_MESSAGE_TYPE(message)) {
    case GST_MESSAGE_ERROR: collect(errors, true); break;
    case GST_MESSAGE_WARNING: collect(warnings, false); break;
    case GST_MESSAGE_EOS: eos = true; break;
    case GST_MESSAGE_ELEMENT: {
      const GstStructure* structure = gst_message_get_structure(message);
      if (gst_structure_has_name(structure, "cfrealtime-session"))
        session_ids.emplace_back(gst_structure_get_string(structure, "session-id"));
      if (gst_structure_has_name(structure, "cfrealtime-waiting"))
        waiting.emplace_back(gst_structure_get_string(structure, "track"));
      break;
    }
    case GST_MESSAGE_LATENCY: gst_bin_recalculate_latency(GST_BIN(pipeline_.get())); break;
    default: break;
  }
}

bool Pipeline::until(const std::function<bool()>& done, unsigned timeout_ms) {
  GstBus* bus = gst_element_get_bus(pipeline_.get());
  gint64 deadline = g_get_monotonic_time() + gint64(scaled(timeout_ms)) * 1000;
  bool result = false;
  for (;;) {
    while (GstMessage* message = gst_bus_pop(bus)) {
      handle(message);
      gst_message_unref(message);
    }
    if ((result = done())) break;
    if (g_get_monotonic_time() > deadline) break;
    if (GstMessage* message = gst_bus_timed_pop(bus, 5 * GST_MSECOND)) {
      handle(message);
      gst_message_unref(message);
    }
    while (g_main_context_iteration(nullptr, FALSE)) {
    }
  }
  gst_object_unref(bus);
  return result;
}

std::string Pipeline::string_property(const char* name, const char* property) const {
  auto found = element(name);
  g_autofree char* value = nullptr;
  if (found) g_object_get(found.get(), property, &value, nullptr);
  return value ? value : "";
}

std::string Pipeline::connection(const char* name) const {
  auto found = element(name);
  return found ? connection_of(found.get()) : "";
}

std::string connection_of(GstElement* element) {
  GValue value = G_VALUE_INIT;
  g_object_get_property(G_OBJECT(element), "connection-state", &value);
  auto* klass = static_cast<GEnumClass*>(g_type_class_ref(G_VALUE_TYPE(&value)));
  GEnumValue* nick = g_enum_get_value(klass, g_value_get_enum(&value));
  std::string text = nick ? nick->value_nick : "";
  g_type_class_unref(klass);
  g_value_unset(&value);
  return text;
}

std::string Pipeline::live_session(const char* name, unsigned tracks, unsigned timeout_ms) {
  bool live = until([&] { return tracks_live >= tracks || !errors.empty(); }, timeout_ms);
  for (const Message& error : errors) ADD_FAILURE() << error.text << "\n" << error.debug;
  if (!live) ADD_FAILURE() << "no track is live; the connection is " << connection(name);
  return string_property(name, "session-id");
}

// --- the process -----------------------------------------------------------------------------

static unsigned count_entries(const char* folder) {
  unsigned count = 0;
  for ([[maybe_unused]] auto& entry : std::filesystem::directory_iterator(folder)) ++count;
  return count;
}

unsigned count_fds() {
  return count_entries("/proc/self/fd");
}
unsigned count_threads() {
  return count_entries("/proc/self/task");
}

unsigned resident_kib() {
  std::ifstream status("/proc/self/status");
  std::string line;
  while (std::getline(status, line))
    if (line.rfind("VmRSS:", 0) == 0) return unsigned(std::strtoul(line.c_str() + 6, nullptr, 10));
  return 0;
}

}  // namespace cfr::test
