// How long it takes to connect: cfrealtimesink and cfrealtimesrc against a webrtcbin wired by hand
// with its defaults, in one run and alternating, against the same local SFU.
//
//   connect [--rounds N] [--cold]
//
// Publishing is timed from the call that sets the pipeline to PLAYING until the SFU has the first
// RTP packet (the SFU notes the monotonic clock, which all processes share); playing, until the
// first decoded frame is at the pipeline's sink. --cold takes a fresh process for every connection,
// as gst-launch-1.0 would, so that loading plugins and making the DTLS key count.
#include <gst/gst.h>
#include <gst/sdp/sdp.h>
#include <gst/webrtc/webrtc.h>
#include <json-glib/json-glib.h>
#include <libsoup/soup.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

namespace {

constexpr char kAppId[] = "bench";
constexpr gint64 kDeadlineUs = 20 * G_USEC_PER_SEC;
// The same picture for both ways, small, so that encoding is no part of the difference.
constexpr char kSource[] =
    "videotestsrc is-live=true ! video/x-raw,format=I420,width=320,height=240,framerate=30/1";

[[noreturn]] void die(const std::string& what) {
  std::fprintf(stderr, "connect: %s\n", what.c_str());
  std::exit(1);
}

bool wait_for(const std::function<bool()>& done) {
  gint64 deadline = g_get_monotonic_time() + kDeadlineUs;
  while (!done()) {
    if (g_get_monotonic_time() > deadline) return false;
    if (!g_main_context_iteration(nullptr, FALSE)) g_usleep(200);
  }
  return true;
}

// --- plain HTTP and JSON ---------------------------------------------------------------------

struct Http {
  SoupSession* session = soup_session_new();
  ~Http() { g_object_unref(session); }

  // The reply's object; owned by the caller.
  JsonParser* call(const char* method, const std::string& url, const std::string& body = "") {
    g_autoptr(SoupMessage) message = soup_message_new(method, url.c_str());
    if (!body.empty()) {
      g_autoptr(GBytes) bytes = g_bytes_new(body.data(), body.size());
      soup_message_set_request_body_from_bytes(message, "application/json", bytes);
    }
    g_autoptr(GError) error = nullptr;
    g_autoptr(GBytes) reply = soup_session_send_and_read(session, message, nullptr, &error);
    if (!reply) die(url + ": " + error->message);
    gsize size = 0;
    auto* data = static_cast<const char*>(g_bytes_get_data(reply, &size));
    JsonParser* parser = json_parser_new();
    if (!json_parser_load_from_data(parser, data, gssize(size), &error))
      die(url + ": " + error->message);
    return parser;
  }
};

JsonObject* object_of(JsonParser* parser) {
  return json_node_get_object(json_parser_get_root(parser));
}

std::string quoted(const std::string& text) {
  g_autoptr(JsonNode) node = json_node_alloc();
  json_node_init_string(node, text.c_str());
  g_autofree char* out = json_to_string(node, FALSE);
  return out;
}

std::string description(const char* type, const std::string& sdp) {
  return std::string("{\"type\":\"") + type + "\",\"sdp\":" + quoted(sdp) + "}";
}

std::string sdp_of(JsonObject* reply) {
  if (!json_object_has_member(reply, "sessionDescription")) die("a reply has no SDP");
  return json_object_get_string_member(json_object_get_object_member(reply, "sessionDescription"),
                                       "sdp");
}

// --- webrtcbin by hand -----------------------------------------------------------------------

struct Wired {
  std::string base;  // http://127.0.0.1:PORT/v1/apps/APP
  Http http;
  GstElement* pipeline = nullptr;
  GstElement* webrtc = nullptr;
  std::string session_id;

  void take(GstElement* made) {
    pipeline = made;
    webrtc = gst_bin_get_by_name(GST_BIN(pipeline), "w");
    // Without it libnice offers no address from which a peer on this machine can be reached. All
    // else is as it comes.
    GObject *ice = nullptr, *agent = nullptr;
    g_object_get(webrtc, "ice-agent", &ice, nullptr);
    g_object_get(ice, "agent", &agent, nullptr);
    gboolean added = FALSE;
    if (g_signal_lookup("add-local-ip-address", G_OBJECT_TYPE(ice)))
      g_signal_emit_by_name(ice, "add-local-ip-address", "127.0.0.1", &added);
    g_object_unref(agent);
    g_object_unref(ice);
  }

  ~Wired() {
    gst_element_set_state(pipeline, GST_STATE_NULL);
    gst_object_unref(webrtc);
    gst_object_unref(pipeline);
  }

  GstWebRTCSessionDescription* create(const char* action) {
    GstPromise* promise = gst_promise_new();
    g_signal_emit_by_name(webrtc, action, nullptr, promise);
    if (gst_promise_wait(promise) != GST_PROMISE_RESULT_REPLIED) die(action);
    GstWebRTCSessionDescription* result = nullptr;
    gst_structure_get(gst_promise_get_reply(promise),
                      g_str_has_suffix(action, "offer") ? "offer" : "answer",
                      GST_TYPE_WEBRTC_SESSION_DESCRIPTION, &result, nullptr);
    gst_promise_unref(promise);
    if (!result) die(action);
    return result;
  }

  void set(const char* action, GstWebRTCSessionDescription* value) {
    GstPromise* promise = gst_promise_new();
    g_signal_emit_by_name(webrtc, action, value, promise);
    gst_promise_wait(promise);
    gst_promise_unref(promise);
    gst_webrtc_session_description_free(value);
  }

  void set_remote(GstWebRTCSDPType type, const std::string& text) {
    GstSDPMessage* message = nullptr;
    gst_sdp_message_new_from_text(text.c_str(), &message);
    set("set-remote-description", gst_webrtc_session_description_new(type, message));
  }

  // No trickle in this API: the description is taken when gathering is complete.
  std::string local_sdp() {
    bool complete = wait_for([this] {
      GstWebRTCICEGatheringState state;
      g_object_get(webrtc, "ice-gathering-state", &state, nullptr);
      return state == GST_WEBRTC_ICE_GATHERING_STATE_COMPLETE;
    });
    if (!complete) die("gathering does not complete");
    GstWebRTCSessionDescription* local = nullptr;
    g_object_get(webrtc, "local-description", &local, nullptr);
    g_autofree char* text = gst_sdp_message_as_text(local->sdp);
    std::string result = text;
    gst_webrtc_session_description_free(local);
    return result;
  }

  void new_session() {
    g_autoptr(JsonParser) reply = http.call("POST", base + "/sessions/new");
    session_id = json_object_get_string_member(object_of(reply), "sessionId");
  }

  std::string path(const char* call) const { return base + "/sessions/" + session_id + call; }
};

GstElement* launch(const std::string& line) {
  g_autoptr(GError) error = nullptr;
  GstElement* pipeline = gst_parse_launch(line.c_str(), &error);
  if (error) die(line + ": " + error->message);
  if (GST_IS_PIPELINE(pipeline)) return pipeline;
  GstElement* around = gst_pipeline_new(nullptr);  // of a single element none is made
  gst_bin_add(GST_BIN(around), pipeline);
  return around;
}

// --- what is measured: microseconds ----------------------------------------------------------

// When the session's first packet came to the SFU, on the monotonic clock.
gint64 first_packet_at(Http& http, const std::string& server, const std::string& session_id) {
  gint64 at = 0;
  bool came = wait_for([&] {
    g_autoptr(JsonParser) stats = http.call("GET", server + "/debug/stats");
    JsonArray* sessions = json_object_get_array_member(object_of(stats), "sessions");
    for (guint i = 0; i < json_array_get_length(sessions); ++i) {
      JsonObject* session = json_array_get_object_element(sessions, i);
      if (session_id != json_object_get_string_member(session, "id")) continue;
      JsonArray* tracks = json_object_get_array_member(session, "tracks");
      for (guint t = 0; t < json_array_get_length(tracks); ++t) {
        JsonObject* track = json_array_get_object_element(tracks, t);
        gint64 first = json_object_get_int_member_with_default(track, "first_packet_us", 0);
        if (first > 0) at = first;
      }
    }
    return at > 0;
  });
  if (!came) die("no packet came to the SFU");
  return at;
}

gint64 publish_wired(const std::string& server) {
  Wired wired;
  wired.base = server + "/v1/apps/" + kAppId;
  wired.take(launch(std::string("webrtcbin name=w bundle-policy=max-bundle ") + kSource +
                    " ! x264enc tune=zerolatency speed-preset=ultrafast key-int-max=60"
                    " ! rtph264pay config-interval=-1 pt=96"
                    " ! application/x-rtp,media=video,encoding-name=H264,payload=96 ! w."));
  std::atomic<bool> needed{false};
  g_signal_connect(wired.webrtc, "on-negotiation-needed",
                   G_CALLBACK(+[](GstElement*, gpointer flag) {
                     *static_cast<std::atomic<bool>*>(flag) = true;
                   }),
                   &needed);
  gint64 began = g_get_monotonic_time();
  gst_element_set_state(wired.pipeline, GST_STATE_PLAYING);
  if (!wait_for([&] { return needed.load(); })) die("negotiation is never needed");
  wired.set("set-local-description", wired.create("create-offer"));
  std::string offer = wired.local_sdp();
  auto mid_at = offer.find("a=mid:");
  std::string mid = offer.substr(mid_at + 6, offer.find('\r', mid_at) - mid_at - 6);
  wired.new_session();
  g_autoptr(JsonParser) reply =
      wired.http.call("POST", wired.path("/tracks/new"),
                      "{\"sessionDescription\":" + description("offer", offer) +
                          ",\"tracks\":[{\"location\":\"local\",\"mid\":" + quoted(mid) +
                          ",\"trackName\":\"v\"}]}");
  wired.set_remote(GST_WEBRTC_SDP_TYPE_ANSWER, sdp_of(object_of(reply)));
  return first_packet_at(wired.http, server, wired.session_id) - began;
}

std::string session_of(GstElement* sink) {
  g_autofree char* id = nullptr;
  g_object_get(sink, "session-id", &id, nullptr);
  return id ? id : "";
}

void check_bus(GstElement* pipeline) {
  g_autoptr(GstBus) bus = gst_element_get_bus(pipeline);
  g_autoptr(GstMessage) message = gst_bus_pop_filtered(bus, GST_MESSAGE_ERROR);
  if (!message) return;
  g_autoptr(GError) error = nullptr;
  gst_message_parse_error(message, &error, nullptr);
  die(error->message);
}

gint64 publish_element(const std::string& server) {
  GstElement* pipeline = launch(std::string(kSource) + " ! cfrealtimesink name=s");
  GstElement* sink = gst_bin_get_by_name(GST_BIN(pipeline), "s");
  gint64 began = g_get_monotonic_time();
  gst_element_set_state(pipeline, GST_STATE_PLAYING);
  std::string session;
  bool created = wait_for([&] {
    check_bus(pipeline);
    return !(session = session_of(sink)).empty();
  });
  if (!created) die("cfrealtimesink got no session");
  Http http;
  gint64 took = first_packet_at(http, server, session) - began;
  gst_element_set_state(pipeline, GST_STATE_NULL);
  gst_object_unref(sink);
  gst_object_unref(pipeline);
  return took;
}

// The time of the first buffer at a pad, kept by a probe.
struct FirstBuffer {
  std::atomic<gint64> at{0};

  void watch(GstElement* element) {
    GstPad* pad = gst_element_get_static_pad(element, "sink");
    gst_pad_add_probe(
        pad, GST_PAD_PROBE_TYPE_BUFFER,
        [](GstPad*, GstPadProbeInfo*, gpointer self) {
          static_cast<FirstBuffer*>(self)->at = g_get_monotonic_time();
          return GST_PAD_PROBE_REMOVE;
        },
        this, nullptr);
    gst_object_unref(pad);
  }
};

gint64 play_wired(const std::string& server, const std::string& publisher) {
  Wired wired;
  wired.base = server + "/v1/apps/" + kAppId;
  // The first codec of the offer would be taken otherwise, which need not be the track's.
  wired.take(launch("webrtcbin name=w bundle-policy=max-bundle"));
  g_signal_connect(wired.webrtc, "on-new-transceiver",
                   G_CALLBACK(+[](GstElement*, GstWebRTCRTPTransceiver* transceiver, gpointer) {
                     g_autoptr(GstCaps) caps = gst_caps_from_string(
                         "application/x-rtp,media=video,encoding-name=H264,clock-rate=90000");
                     g_object_set(transceiver, "codec-preferences", caps, nullptr);
                   }),
                   nullptr);
  FirstBuffer first;
  struct Player {
    GstElement* pipeline;
    FirstBuffer* first;
  } player{wired.pipeline, &first};
  g_signal_connect(
      wired.webrtc, "pad-added", G_CALLBACK(+[](GstElement*, GstPad* pad, gpointer data) {
        auto* into = static_cast<Player*>(data);
        GstElement* decode = gst_parse_bin_from_description(
            "rtph264depay ! h264parse ! avdec_h264 ! fakesink name=out sync=false async=false",
            TRUE, nullptr);
        GstElement* out = gst_bin_get_by_name(GST_BIN(decode), "out");
        into->first->watch(out);
        gst_object_unref(out);
        gst_bin_add(GST_BIN(into->pipeline), decode);
        gst_element_sync_state_with_parent(decode);
        GstPad* sink = gst_element_get_static_pad(decode, "sink");
        gst_pad_link(pad, sink);
        gst_object_unref(sink);
      }),
      &player);
  gint64 began = g_get_monotonic_time();
  gst_element_set_state(wired.pipeline, GST_STATE_PLAYING);
  wired.new_session();
  g_autoptr(JsonParser) reply =
      wired.http.call("POST", wired.path("/tracks/new"),
                      "{\"tracks\":[{\"location\":\"remote\",\"sessionId\":" + quoted(publisher) +
                          ",\"trackName\":\"video_0\"}]}");
  wired.set_remote(GST_WEBRTC_SDP_TYPE_OFFER, sdp_of(object_of(reply)));
  wired.set("set-local-description", wired.create("create-answer"));
  g_autoptr(JsonParser) done =
      wired.http.call("PUT", wired.path("/renegotiate"),
                      "{\"sessionDescription\":" + description("answer", wired.local_sdp()) + "}");
  if (!wait_for([&] { return first.at > 0; })) die("webrtcbin shows no picture");
  gint64 took = first.at - began;
  gst_element_set_state(wired.pipeline, GST_STATE_NULL);
  return took;
}

gint64 play_element(const std::string& publisher) {
  GstElement* pipeline = launch("cfrealtimesrc tracks=video_0 session-id=" + publisher +
                                " ! video/x-raw ! fakesink name=out sync=false async=false");
  GstElement* out = gst_bin_get_by_name(GST_BIN(pipeline), "out");
  FirstBuffer first;
  first.watch(out);
  gst_object_unref(out);
  gint64 began = g_get_monotonic_time();
  gst_element_set_state(pipeline, GST_STATE_PLAYING);
  bool came = wait_for([&] {
    check_bus(pipeline);
    return first.at > 0;
  });
  if (!came) die("cfrealtimesrc shows no picture");
  gst_element_set_state(pipeline, GST_STATE_NULL);
  gst_object_unref(pipeline);
  return first.at - began;
}

// --- the run ---------------------------------------------------------------------------------

gint64 measure(const std::string& kind, const std::string& server, const std::string& publisher) {
  if (kind == "publish-webrtcbin") return publish_wired(server);
  if (kind == "publish-element") return publish_element(server);
  if (kind == "play-webrtcbin") return play_wired(server, publisher);
  return play_element(publisher);
}

gint64 measure_cold(const char* self, const std::string& kind, const std::string& server,
                    const std::string& publisher) {
  const char* argv[] = {self,           "--one",       kind.c_str(),      "--server",
                        server.c_str(), "--publisher", publisher.c_str(), nullptr};
  g_autofree char* out = nullptr;
  int status = 0;
  if (!g_spawn_sync(nullptr, const_cast<char**>(argv), nullptr, GSpawnFlags(0), nullptr, nullptr,
                    &out, nullptr, &status, nullptr) ||
      status != 0)
    die("a measurement in a process of its own failed");
  return g_ascii_strtoll(out, nullptr, 10);
}

double median_ms(std::vector<gint64> values) {
  std::sort(values.begin(), values.end());
  std::size_t n = values.size();
  double middle = n % 2 ? double(values[n / 2]) : (values[n / 2 - 1] + values[n / 2]) / 2.0;
  return middle / 1000;
}

struct LocalSfu {
  GPid pid = 0;
  std::string server;

  explicit LocalSfu(const char* program) {
    const char* argv[] = {program, "--port", "0", nullptr};
    int out = -1;
    g_autoptr(GError) error = nullptr;
    if (!g_spawn_async_with_pipes(nullptr, const_cast<char**>(argv), nullptr,
                                  GSpawnFlags(G_SPAWN_DO_NOT_REAP_CHILD | G_SPAWN_SEARCH_PATH |
                                              G_SPAWN_STDERR_TO_DEV_NULL),
                                  nullptr, nullptr, &pid, nullptr, &out, nullptr, &error))
      die(error->message);
    std::string text;
    for (char c; server.empty() && read(out, &c, 1) == 1;) {
      text += c;
      auto at = text.find("http://");
      if (c == '\n' && at != std::string::npos)
        server =
            text.substr(at, text.find_first_not_of("0123456789", text.find(':', at + 7) + 1) - at);
    }
    if (server.empty()) die("the local SFU does not say where it listens");
  }
  ~LocalSfu() {
    ::kill(pid, SIGTERM);
    waitpid(pid, nullptr, 0);
    g_spawn_close_pid(pid);
  }
};

}  // namespace

int main(int argc, char** argv) {
  int rounds = 10;
  gboolean cold = FALSE;
  g_autofree char *one = nullptr, *server_given = nullptr, *publisher_given = nullptr;
  const GOptionEntry entries[] = {
      {"rounds", 0, 0, G_OPTION_ARG_INT, &rounds, "Measurements of each kind (10)", "N"},
      {"cold", 0, 0, G_OPTION_ARG_NONE, &cold, "A fresh process for each measurement", nullptr},
      {"one", 0, G_OPTION_FLAG_HIDDEN, G_OPTION_ARG_STRING, &one, nullptr, nullptr},
      {"server", 0, G_OPTION_FLAG_HIDDEN, G_OPTION_ARG_STRING, &server_given, nullptr, nullptr},
      {"publisher", 0, G_OPTION_FLAG_HIDDEN, G_OPTION_ARG_STRING, &publisher_given, nullptr,
       nullptr},
      {}};
  g_autoptr(GOptionContext) options = g_option_context_new("- connect times");
  g_option_context_add_main_entries(options, entries, nullptr);
  g_option_context_add_group(options, gst_init_get_option_group());
  g_autoptr(GError) error = nullptr;
  if (!g_option_context_parse(options, &argc, &argv, &error)) die(error->message);

  if (one) {
    std::printf("%" G_GINT64_FORMAT "\n", measure(one, server_given, publisher_given));
    return 0;
  }
  g_setenv("CFREALTIME_APP_ID", kAppId, TRUE);
  g_setenv("CFREALTIME_APP_SECRET", "", TRUE);
  const char* program = g_getenv("CFREALTIME_SFU");
  LocalSfu sfu(program ? program : "cfrealtime-sfu");
  g_setenv("CFREALTIME_API_URL", (sfu.server + "/v1").c_str(), TRUE);

  // What the players play.
  GstElement* publisher = launch(std::string(kSource) + " ! cfrealtimesink name=s");
  GstElement* sink = gst_bin_get_by_name(GST_BIN(publisher), "s");
  gst_element_set_state(publisher, GST_STATE_PLAYING);
  if (!wait_for([&] { return !session_of(sink).empty(); })) die("the publisher got no session");
  std::string session = session_of(sink);
  Http http;
  first_packet_at(http, sfu.server, session);

  const std::vector<std::string> kinds = {"publish-webrtcbin", "publish-element", "play-webrtcbin",
                                          "play-element"};
  std::vector<std::vector<gint64>> times(kinds.size());
  // The round before the first loads plugins and is not counted, unless that is the question.
  for (int round = cold ? 0 : -1; round < rounds; ++round) {
    for (std::size_t i = 0; i < kinds.size(); ++i) {
      // The SFU asks a publisher for one key frame a second at most: none shall pay for another.
      if (g_str_has_prefix(kinds[i].c_str(), "play")) {
        gint64 until = g_get_monotonic_time() + 1200 * 1000;
        wait_for([until] { return g_get_monotonic_time() > until; });
      }
      gint64 took = cold ? measure_cold(argv[0], kinds[i], sfu.server, session)
                         : measure(kinds[i], sfu.server, session);
      if (round >= 0) times[i].push_back(took);
    }
  }
  gst_element_set_state(publisher, GST_STATE_NULL);
  gst_object_unref(sink);
  gst_object_unref(publisher);

  std::printf("%d rounds, %s; milliseconds, median (least to most)\n", rounds,
              cold ? "a fresh process each" : "one process");
  for (std::size_t i = 0; i < kinds.size(); ++i) {
    auto [least, most] = std::minmax_element(times[i].begin(), times[i].end());
    std::printf("%-18s %7.1f (%.1f to %.1f)\n", kinds[i].c_str(), median_ms(times[i]),
                double(*least) / 1000, double(*most) / 1000);
  }
  std::printf("first RTP at the SFU:  cfrealtimesink takes %.2f of webrtcbin's time\n",
              median_ms(times[1]) / median_ms(times[0]));
  std::printf("first decoded picture: cfrealtimesrc takes %.2f of webrtcbin's time\n",
              median_ms(times[3]) / median_ms(times[2]));
  return 0;
}
