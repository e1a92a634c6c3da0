// Secrets show up nowhere: not in the most talkative debug log, not in dot files, messages,
// property listings or command lines.
#include <gio/gio.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>

#include <filesystem>
#include <fstream>
#include <regex>

#include "loop/content.h"
#include "loop/harness.h"

namespace cfr::test {
namespace {

namespace fs = std::filesystem;

constexpr char kAppSecret[] = "app7secret3f1c";
constexpr char kTurnToken[] = "turn7token9ab2";
constexpr char kStreamToken[] = "stream7token55d0";
constexpr char kTurnPassword[] = "turn7password81e4";

const char* const kSecrets[] = {kAppSecret, kTurnToken, kStreamToken, kTurnPassword};

std::string contents(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

// Large files, line by line. What the API gives out for TURN is a secret for as long as it is
// valid.
void expect_clean(const fs::path& path) {
  static const std::regex credentials(R"(turns?://[^ ]*:[^ ]*@|credential\\*": *\\*"[^"\\(])");
  std::ifstream file(path, std::ios::binary);
  std::string line;
  std::size_t number = 0;
  while (std::getline(file, line)) {
    ++number;
    for (const char* secret : kSecrets)
      ASSERT_EQ(line.find(secret), std::string::npos)
          << path << ":" << number << ": " << line.substr(0, 400);
    bool worth_a_look =
        line.find('@') != std::string::npos || line.find("credential") != std::string::npos;
    ASSERT_FALSE(worth_a_look && std::regex_search(line, credentials))
        << path << ":" << number << ": " << line.substr(0, 400);
  }
}

class Launch {
 public:
  // gst-launch-1.0 with everything logged into `folder`/`name`.*
  Launch(const fs::path& folder, const std::string& name, const std::string& line) {
    std::string out = (folder / (name + ".out")).string();
    std::string command = "exec gst-launch-1.0 -v " + line + " >" + out + " 2>&1";
    fs::create_directories(folder / (name + ".dot"));
    g_auto(GStrv) environment = g_get_environ();
    auto set = [&](const char* variable, const std::string& value) {
      environment = g_environ_setenv(environment, variable, value.c_str(), TRUE);
    };
    set("GST_DEBUG", "*:9");
    set("GST_DEBUG_FILE", (folder / (name + ".log")).string());
    set("GST_DEBUG_NO_COLOR", "1");
    set("GST_DEBUG_DUMP_DOT_DIR", (folder / (name + ".dot")).string());
    const char* argv[] = {"sh", "-c", command.c_str(), nullptr};
    g_autoptr(GError) error = nullptr;
    EXPECT_TRUE(g_spawn_async(nullptr, const_cast<char**>(argv), environment,
                              GSpawnFlags(G_SPAWN_DO_NOT_REAP_CHILD | G_SPAWN_SEARCH_PATH), nullptr,
                              nullptr, &pid_, &error))
        << error->message;
  }
  ~Launch() {
    if (!pid_) return;
    ::kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
  bool ended() {
    if (pid_ && waitpid(pid_, nullptr, WNOHANG) == pid_) pid_ = 0;
    return pid_ == 0;
  }
  std::string command_line() const {
    return pid_ ? contents("/proc/" + std::to_string(pid_) + "/cmdline") : "";
  }
  void interrupt() {
    if (pid_) ::kill(pid_, SIGINT);
  }

 private:
  GPid pid_ = 0;
};

struct Environment {
  Environment() {
    g_setenv("CFREALTIME_TURN_KEY_TOKEN", kTurnToken, TRUE);
    g_setenv("CFREALTIME_STREAM_TOKEN", kStreamToken, TRUE);
  }
  ~Environment() {
    g_unsetenv("CFREALTIME_TURN_KEY_TOKEN");
    g_unsetenv("CFREALTIME_STREAM_TOKEN");
    g_unsetenv("CFREALTIME_APP_SECRET");
  }
};

TEST(Secrets, are_in_no_log_dot_file_or_output) {
  g_autofree char* temporary = g_dir_make_tmp("cfrealtime-secrets-XXXXXX", nullptr);
  fs::path folder = temporary;
  {
    Environment environment;
    Sfu sfu({"--turn-url", "turn:127.0.0.1:9?transport=udp", "--turn-secret", kTurnPassword},
            kAppSecret);
    std::string url = sfu.base_url() + "/streams/cam";
    Launch publisher(folder, "publisher",
                     "audiotestsrc is-live=true ! cfrealtimesink turn-key-id=k stream-url=" + url);
    Launch player(
        folder, "player",
        "cfrealtimesrc turn-key-id=k stream-url=" + url + " ! audio/x-raw ! fakesink silent=false");
    std::string commands = publisher.command_line() + player.command_line();
    auto plays = [&] { return contents(folder / "player.out").find("chain") != std::string::npos; };
    ASSERT_TRUE(wait_until(plays, 60000)) << contents(folder / "player.out");
    // An outage and a refusal, which are told about at length.
    unsigned sessions = sfu.count("sessions/new");
    http("POST", sfu.base_url() + "/debug/faults",
         R"({"operation":"tracks/new","status":503,"count":1})");
    http("POST", sfu.base_url() + "/debug/restart");
    EXPECT_TRUE(wait_until([&] { return sfu.count("sessions/new") >= sessions + 2; }, 60000));
    http("POST", sfu.base_url() + "/debug/faults",
         R"({"operation":"sessions/new","status":401,"errorCode":"unauthorized","count":-1})");
    http("POST", sfu.base_url() + "/debug/restart");
    EXPECT_TRUE(wait_until([&] { return publisher.ended(); }, 60000)) << "401 ends it";
    player.interrupt();
    EXPECT_TRUE(wait_until([&] { return player.ended(); }, 60000));
    std::ofstream(folder / "commands") << commands;
    std::ofstream(folder / "requests") << sfu.requests();
    std::ofstream(folder / "stats") << sfu.stats();
  }
  unsigned files = 0;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (!entry.is_regular_file()) continue;
    ++files;
    expect_clean(entry.path());
  }
  EXPECT_GT(files, 8u);
  EXPECT_NE(contents(folder / "publisher.log").find("cfrealtime"), std::string::npos);
  fs::remove_all(folder);
}

// Every readable property of the object, as a listing would show it.
void expect_clean(GObject* object) {
  guint n = 0;
  GParamSpec** all = g_object_class_list_properties(G_OBJECT_GET_CLASS(object), &n);
  for (guint i = 0; i < n; ++i) {
    if (!(all[i]->flags & G_PARAM_READABLE)) continue;
    GValue value = G_VALUE_INIT;
    g_value_init(&value, all[i]->value_type);
    g_object_get_property(object, all[i]->name, &value);
    const bool none = G_VALUE_HOLDS_BOXED(&value) && !g_value_get_boxed(&value);
    g_autofree char* text = none ? g_strdup("") : g_strdup_value_contents(&value);
    for (const char* secret : kSecrets)
      EXPECT_EQ(std::string(text).find(secret), std::string::npos)
          << G_OBJECT_TYPE_NAME(object) << " " << all[i]->name;
    g_value_unset(&value);
  }
  g_free(all);
}

TEST(Secrets, cannot_be_read_back) {
  Environment environment;
  Sfu sfu({}, kAppSecret);
  Pipeline pipeline(std::string("audiotestsrc is-live=true ! cfrealtimesink name=s app-secret=") +
                    kAppSecret + " turn-key-token=" + kTurnToken + " stream-token=" + kStreamToken +
                    " stream-url=" + sfu.base_url() + "/streams/cam turn-servers=\"turn://me:" +
                    kTurnPassword + "@127.0.0.1:9?transport=udp\"");
  pipeline.play();
  EXPECT_FALSE(pipeline.live_session().empty());
  unsigned objects = 0;
  GstIterator* iterator = gst_bin_iterate_recurse(GST_BIN(pipeline.get()));
  GValue item = G_VALUE_INIT;
  while (gst_iterator_next(iterator, &item) == GST_ITERATOR_OK) {
    expect_clean(G_OBJECT(g_value_get_object(&item)));
    ++objects;
    g_value_reset(&item);
  }
  g_value_unset(&item);
  gst_iterator_free(iterator);
  EXPECT_GT(objects, 5u);
  g_autofree char* dot =
      gst_debug_bin_to_dot_data(GST_BIN(pipeline.get()), GST_DEBUG_GRAPH_SHOW_ALL);
  for (const char* secret : kSecrets) EXPECT_EQ(std::string(dot).find(secret), std::string::npos);
}

TEST(Secrets, are_on_no_command_line_of_ours) {
  const std::regex on_the_line(
      R"((app-secret|turn-key-token|stream-token|turn-secret)[= ]+[A-Za-z0-9])");
  unsigned lines = 0;
  auto look = [&](const fs::path& path) {
    std::ifstream file(path);
    std::string line;
    while (std::getline(file, line)) {
      if (line.find("gst-launch-1.0") == std::string::npos &&
          line.find("cfrealtime-sfu ") == std::string::npos)
        continue;
      ++lines;
      EXPECT_FALSE(std::regex_search(line, on_the_line)) << path << ": " << line;
    }
  };
  look(fs::path(CFR_SOURCE_ROOT) / "README.md");
  for (const char* folder : {"docs", "examples"})
    for (const auto& entry : fs::recursive_directory_iterator(fs::path(CFR_SOURCE_ROOT) / folder))
      if (entry.is_regular_file()) look(entry.path());
  EXPECT_GT(lines, 10u);
}

}  // namespace
}  // namespace cfr::test
