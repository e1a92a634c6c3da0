// Media through a TURN server (coturn), on a network that lets nothing else through.
#include <gio/gio.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>

#include <cstdio>

#include "loop/harness.h"
#include "loop/stream.h"
#include "net/network.h"

namespace cfr::test {
namespace {

constexpr char kTurnSecret[] = "north";

// coturn at the other end of the cable, with credentials as the TURN REST API draft has them
// (draft-uberti-behave-turn-rest-00), which the local SFU makes in generate-ice-servers.
class Turn {
 public:
  Turn() {
    auto words = Network::there();
    for (std::string word :
         {"turnserver", "-n", "--no-cli", "--no-tls", "--no-dtls", "--log-file=stdout",
          "--simple-log", "--listening-port=3478", "--realm=example.org", "--use-auth-secret",
          "--static-auth-secret=north", "--allow-loopback-peers", "--pidfile=/dev/null"})
      words.push_back(word);
    words.push_back(std::string("--listening-ip=") + Network::kTheirs);
    words.push_back(std::string("--relay-ip=") + Network::kTheirs);
    std::vector<char*> argv;
    for (std::string& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);
    g_autoptr(GError) error = nullptr;
    bool started =
        g_spawn_async(nullptr, argv.data(), nullptr,
                      GSpawnFlags(G_SPAWN_DO_NOT_REAP_CHILD | G_SPAWN_SEARCH_PATH |
                                  G_SPAWN_STDOUT_TO_DEV_NULL | G_SPAWN_STDERR_TO_DEV_NULL),
                      nullptr, nullptr, &pid_, &error);
    EXPECT_TRUE(started) << error->message;
    EXPECT_TRUE(wait_until([] {
      g_autoptr(GSocketClient) client = g_socket_client_new();
      g_autoptr(GSocketConnection) connection =
          g_socket_client_connect_to_host(client, Network::kTheirs, 3478, nullptr, nullptr);
      return connection != nullptr;
    })) << "coturn does not listen";
  }
  ~Turn() {
    if (!pid_) return;
    ::kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
    g_spawn_close_pid(pid_);
  }

 private:
  GPid pid_ = 0;
};

struct Pair {
  std::string local_type, protocol;
};

Pair pair_of(Pipeline& pipeline, const char* name) {
  GstStructure* stats = nullptr;
  g_object_get(pipeline.element(name).get(), "stats", &stats, nullptr);
  Pair pair;
  const GValue* value = gst_structure_get_value(stats, "candidate-pair");
  if (value) {
    const GstStructure* candidates = gst_value_get_structure(value);
    pair.local_type = gst_structure_get_string(candidates, "local-type");
    pair.protocol = gst_structure_get_string(candidates, "protocol");
  }
  gst_structure_free(stats);
  return pair;
}

void set_key() {
  g_setenv("CFREALTIME_TURN_KEY_TOKEN", "south", TRUE);
}

std::string url(const char* transport) {
  return std::string("turn:") + Network::kTheirs + ":3478?transport=" + transport;
}

struct Way {
  const char* name;
  const char* transport;
  bool blocked;  // all UDP but that to the TURN server, if that is its transport
  bool relay_only;
};

class TurnWay : public testing::TestWithParam<Way> {
 protected:
  void TearDown() override { Network::lose_nothing(); }
};

TEST_P(TurnWay, carries_media) {
  const Way& way = GetParam();
  Turn turn;
  set_key();
  Sfu sfu({"--turn-url", url(way.transport), "--turn-secret", kTurnSecret});
  std::vector<std::string> spared;
  if (std::string(way.transport) == "udp") spared = {"udp sport 3478", "udp dport 3478"};
  if (way.blocked) Network::lose("meta l4proto udp", spared);
  std::string options =
      std::string("turn-key-id=key ice-transport-policy=") + (way.relay_only ? "relay" : "all");
  Stream stream(sfu, options);
  ASSERT_TRUE(stream.start(60000));
  for (const auto& [element, called] :
       {std::pair(&stream.publisher, "s"), std::pair(&stream.player, "r")}) {
    Pipeline* pipeline = element;
    const char* name = called;
    EXPECT_TRUE(pipeline->until([&] { return !pair_of(*pipeline, name).local_type.empty(); }));
    Pair pair = pair_of(*pipeline, name);
    EXPECT_EQ(pair.local_type, "relay") << name;
    EXPECT_EQ(pair.protocol, way.transport) << name;
  }
  EXPECT_TRUE(stream.flows(60, 10000));
  stream.expect_unharmed();
}

INSTANTIATE_TEST_SUITE_P(Ways, TurnWay,
                         testing::Values(Way{"udp_relay_only", "udp", false, true},
                                         Way{"tcp_relay_only", "tcp", false, true},
                                         Way{"udp_to_the_sfu_blocked", "udp", true, false},
                                         Way{"all_udp_blocked", "tcp", true, false}),
                         [](const auto& info) { return std::string(info.param.name); });

TEST(Turn, own_servers_need_no_key) {
  Turn turn;
  Sfu sfu({"--turn-url", url("tcp"), "--turn-secret", kTurnSecret});
  // Credentials such as the user's own backend would hand out.
  std::string username = std::to_string(g_get_real_time() / G_USEC_PER_SEC + 600) + ":me";
  g_autofree char* hex = g_compute_hmac_for_data(
      G_CHECKSUM_SHA1, reinterpret_cast<const guchar*>(kTurnSecret), strlen(kTurnSecret),
      reinterpret_cast<const guchar*>(username.data()), username.size());
  std::vector<guchar> digest;
  for (const char* c = hex; *c; c += 2)
    digest.push_back(guchar(g_ascii_xdigit_value(c[0]) << 4 | g_ascii_xdigit_value(c[1])));
  g_autofree char* password = g_base64_encode(digest.data(), digest.size());
  auto encoded = [](const char* text) {
    g_autofree char* escaped = g_uri_escape_string(text, nullptr, FALSE);
    return std::string(escaped);
  };
  Stream stream(sfu, "ice-transport-policy=relay turn-servers=\"turn://" +
                         encoded(username.c_str()) + ":" + encoded(password) + "@" +
                         Network::kTheirs + ":3478?transport=tcp\"");
  ASSERT_TRUE(stream.start());
  EXPECT_TRUE(stream.flows(30, 10000));
  stream.expect_unharmed();
}

TEST(Turn, credentials_are_asked_for_again_when_the_api_is_back) {
  Turn turn;
  set_key();
  Sfu sfu({"--turn-url", url("udp"), "--turn-secret", kTurnSecret});
  http("POST", sfu.base_url() + "/debug/faults",
       R"({"operation":"ice-servers","status":503,"count":3})");
  Stream stream(sfu, "turn-key-id=key ice-transport-policy=relay");
  EXPECT_TRUE(stream.start());
  stream.expect_unharmed();
}

TEST(Turn, a_relayed_connection_moves_before_its_credentials_expire) {
  Turn turn;
  set_key();
  Sfu sfu({"--turn-url", url("udp"), "--turn-secret", kTurnSecret});
  Stream stream(sfu, "turn-key-id=key ice-transport-policy=relay turn-ttl=15");
  ASSERT_TRUE(stream.start());
  std::string session = stream.publisher.string_property("s", "session-id");
  unsigned asked = sfu.count("generate-ice-servers");
  EXPECT_TRUE(stream.publisher.until(
      [&] {
        stream.player.until([] { return true; }, 0);
        std::string now = stream.publisher.string_property("s", "session-id");
        return !now.empty() && now != session;
      },
      20000));
  EXPECT_TRUE(stream.flows(150, 20000));
  EXPECT_GE(sfu.count("generate-ice-servers"), asked + 2) << "both have taken new ones";
  EXPECT_TRUE(stream.publisher.warnings.empty()) << stream.publisher.warnings[0].text;
  stream.expect_unharmed();
}

TEST(Turn, a_wrong_key_ends_what_needs_it) {
  Turn turn;
  set_key();
  Sfu sfu({"--turn-url", url("udp"), "--turn-secret", kTurnSecret});
  http("POST", sfu.base_url() + "/debug/faults",
       R"({"operation":"ice-servers","status":401,"errorCode":"unauthorized","count":-1})");
  Pipeline relayed(std::string(kPicture) + "turn-key-id=key ice-transport-policy=relay");
  relayed.play();
  EXPECT_TRUE(relayed.until_error(10000));
  ASSERT_FALSE(relayed.errors.empty());
  EXPECT_EQ(relayed.errors[0].code, GST_RESOURCE_ERROR_NOT_AUTHORIZED) << relayed.errors[0].text;
  // Where there are other ways, it is a warning.
  Pipeline direct(std::string(kPicture) + "turn-key-id=key");
  direct.play();
  EXPECT_FALSE(direct.live_session().empty());
  EXPECT_FALSE(direct.warnings.empty());
}

}  // namespace
}  // namespace cfr::test
