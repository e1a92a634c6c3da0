#include "media/receive_chain.h"

#include <gst/video/video.h>

#include <mutex>

#include "media/edge.h"

namespace cfr {

namespace {

void set_text(GstElement* element, const char* property, const char* value) {
  if (g_object_class_find_property(G_OBJECT_GET_CLASS(element), property))
    gst_util_set_object_arg(G_OBJECT(element), property, value);
}

Error peer_error(std::string message) {
  Error error;
  error.kind = ErrorKind::peer;
  error.message = std::move(message);
  return error;
}

bool accepts(const GstCaps* downstream, const char* caps) {
  g_autoptr(GstCaps) wanted = gst_caps_from_string(caps);
  return gst_caps_can_intersect(downstream, wanted);
}

// The best-ranked decoder that comes up; hardware decoders have the higher ranks.
GstElement* make_decoder(const Codec& codec) {
  g_autoptr(GstCaps) caps = gst_caps_from_string(codec.encoded_caps);
  // There are decoders of high rank for pictures with an alpha plane and nothing else.
  if (codec.kind == MediaKind::video)
    gst_caps_set_simple(caps, "codec-alpha", G_TYPE_BOOLEAN, FALSE, nullptr);
  GList* all = gst_element_factory_list_get_elements(
      GST_ELEMENT_FACTORY_TYPE_DECODER | (codec.kind == MediaKind::video
                                              ? GST_ELEMENT_FACTORY_TYPE_MEDIA_VIDEO
                                              : GST_ELEMENT_FACTORY_TYPE_MEDIA_AUDIO),
      GST_RANK_MARGINAL);
  GList* fitting = gst_element_factory_list_filter(all, caps, GST_PAD_SINK, FALSE);
  fitting = g_list_sort(fitting, gst_plugin_feature_rank_compare_func);
  GstElement* decoder = nullptr;
  for (GList* item = fitting; item && !decoder; item = item->next) {
    decoder = gst_element_factory_create(GST_ELEMENT_FACTORY(item->data), nullptr);
    if (!decoder) continue;
    if (gst_element_set_state(decoder, GST_STATE_READY) == GST_STATE_CHANGE_FAILURE) {
      gst_element_set_state(decoder, GST_STATE_NULL);
      gst_object_ref_sink(decoder);
      gst_object_unref(decoder);
      decoder = nullptr;
    }
  }
  gst_plugin_feature_list_free(fitting);
  gst_plugin_feature_list_free(all);
  if (decoder) {
    // Frame threads would hold frames back.
    set_text(decoder, "thread-type", "slice");
    set_text(decoder, "plc", "true");
    set_text(decoder, "use-inband-fec", "true");
  }
  return decoder;
}

}  // namespace

struct ReceiveChain::State {
  explicit State(const Codec& codec) : codec(codec) {}
  const Codec& codec;
  gref<GstElement> bin;
  GstPad* sink = nullptr;  // ghost pads, owned by the bin
  GstPad* src = nullptr;
  const std::shared_ptr<Edge> edge = std::make_shared<Edge>();
  std::mutex building;  // configure against unconfigure: application threads, never streaming ones
  std::mutex mutex;     // guards the rest; held only to copy
  gref<GstPad> linked;
  std::string stream_id;
  GstTagList* tags = nullptr;
  // under `building`
  std::vector<GstElement*> inside;

  ~State() {
    if (tags) gst_tag_list_unref(tags);
  }
  void clear();
  void ask_key_frame();
};

ReceiveChain::ReceiveChain(const Codec& codec, const char* name)
    : state_(std::make_shared<State>(codec)) {
  State& s = *state_;
  s.bin = gref<GstElement>::ref(gst_bin_new(name));  // stays floating for gst_bin_add
  s.sink = gst_ghost_pad_new_no_target("sink", GST_PAD_SINK);
  gref<GstCaps> caps = receivable_caps(codec.kind, &codec);
  g_autoptr(GstPadTemplate) templ =
      gst_pad_template_new("src", GST_PAD_SRC, GST_PAD_ALWAYS, caps.get());
  gst_object_ref_sink(templ);
  s.src = gst_ghost_pad_new_no_target_from_template("src", templ);
  install_edge(s.sink, s.edge);
  // Downstream sees one stream of our name, however often webrtcbin is replaced.
  gst_pad_add_probe(
      s.src, GST_PAD_PROBE_TYPE_EVENT_DOWNSTREAM,
      [](GstPad* pad, GstPadProbeInfo* info, gpointer data) {
        auto state = static_cast<std::weak_ptr<State>*>(data)->lock();
        GstEvent* event = GST_PAD_PROBE_INFO_EVENT(info);
        if (!state || GST_EVENT_TYPE(event) != GST_EVENT_STREAM_START) return GST_PAD_PROBE_OK;
        std::lock_guard lock(state->mutex);
        if (state->stream_id.empty()) return GST_PAD_PROBE_OK;
        GstEvent* own = gst_event_new_stream_start(state->stream_id.c_str());
        guint group = 0;
        if (gst_event_parse_group_id(event, &group)) gst_event_set_group_id(own, group);
        gst_event_set_seqnum(own, gst_event_get_seqnum(event));
        gst_event_unref(event);
        GST_PAD_PROBE_INFO_DATA(info) = own;
        return GST_PAD_PROBE_OK;
      },
      new std::weak_ptr<State>(state_),
      [](gpointer data) { delete static_cast<std::weak_ptr<State>*>(data); });
  gst_element_add_pad(s.bin.get(), s.sink);
  gst_element_add_pad(s.bin.get(), s.src);
}

ReceiveChain::~ReceiveChain() { disconnect(); }

GstElement* ReceiveChain::bin() const { return state_->bin.get(); }
const Codec& ReceiveChain::codec() const { return state_->codec; }
uint64_t ReceiveChain::packets() const { return state_->edge->seen; }

void ReceiveChain::set_stream_id(const std::string& stream_id) {
  std::lock_guard lock(state_->mutex);
  state_->stream_id = stream_id;
}

void ReceiveChain::set_tags(GstTagList* tags) {
  std::lock_guard lock(state_->mutex);
  if (state_->tags) gst_tag_list_unref(state_->tags);
  state_->tags = tags;
}

void ReceiveChain::State::clear() {
  edge->open = false;
  gst_ghost_pad_set_target(GST_GHOST_PAD(sink), nullptr);
  for (GstElement* element : inside) {
    gst_element_set_locked_state(element, TRUE);
    gst_element_set_state(element, GST_STATE_NULL);
  }
  gst_ghost_pad_set_target(GST_GHOST_PAD(src), nullptr);
  for (GstElement* element : inside) gst_bin_remove(GST_BIN(bin.get()), element);
  inside.clear();
}

Result<ReceiveChain::Output> ReceiveChain::configure(const GstCaps* downstream) {
  State& s = *state_;
  const bool video = s.codec.kind == MediaKind::video;
  Output output;
  if (accepts(downstream, video ? "video/x-raw(ANY)" : "audio/x-raw(ANY)")) output = Output::raw;
  else if (accepts(downstream, s.codec.encoded_caps)) output = Output::encoded;
  else if (accepts(downstream, "application/x-rtp")) output = Output::rtp;
  else {
    g_autofree char* text = gst_caps_to_string(downstream);
    return peer_error(std::string("A ") + s.codec.name +
                      " track cannot be given to what it is linked to, which takes " + text + ".");
  }

  std::lock_guard building(s.building);
  s.clear();
  std::string missing;
  auto append = [&](GstElement* element, const char* what) {
    if (!element) {
      if (missing.empty()) missing = what;
      return;
    }
    gst_bin_add(GST_BIN(s.bin.get()), element);
    s.inside.push_back(element);
  };
  auto make = [&](const char* factory) {
    GstElement* element = gst_element_factory_make(factory, nullptr);
    append(element, factory);
    return element;
  };
  if (output == Output::rtp) {
    make("identity");
  } else {
    if (GstElement* depayloader = make(s.codec.depayloader)) {
      set_text(depayloader, "wait-for-keyframe", "true");
      set_text(depayloader, "request-keyframe", "true");
    }
    if (s.codec.parser) make(s.codec.parser);
    if (output == Output::raw) {
      append(make_decoder(s.codec), "decoder");
      make(video ? "videoconvert" : "audioconvert");
      if (!video) make("audioresample");
    }
  }
  if (!missing.empty()) {
    s.clear();
    return peer_error(
        missing == "decoder"
            ? std::string("No decoder for ") + s.codec.name +
                  " is installed. Install gstreamer1.0-libav or gstreamer1.0-plugins-bad."
            : "The element " + missing + " is missing. Install the GStreamer good and bad plugins.");
  }
  for (std::size_t i = 1; i < s.inside.size(); ++i)
    if (!gst_element_link(s.inside[i - 1], s.inside[i])) {
      std::string problem = std::string("Cannot link ") + GST_OBJECT_NAME(s.inside[i - 1]) +
                            " to " + GST_OBJECT_NAME(s.inside[i]) + ".";
      s.clear();
      return peer_error(problem);
    }
  g_autoptr(GstPad) last = gst_element_get_static_pad(s.inside.back(), "src");
  gst_ghost_pad_set_target(GST_GHOST_PAD(s.src), last);
  {
    std::lock_guard lock(s.mutex);
    if (s.tags)
      gst_pad_store_sticky_event(s.src, gst_event_new_tag(gst_tag_list_ref(s.tags)));
  }
  for (auto element = s.inside.rbegin(); element != s.inside.rend(); ++element)
    gst_element_sync_state_with_parent(*element);
  g_autoptr(GstPad) first = gst_element_get_static_pad(s.inside.front(), "sink");
  gst_ghost_pad_set_target(GST_GHOST_PAD(s.sink), first);
  s.edge->open = true;
  s.ask_key_frame();
  return output;
}

void ReceiveChain::unconfigure() {
  std::lock_guard building(state_->building);
  state_->clear();
}

void ReceiveChain::State::ask_key_frame() {
  gref<GstPad> pad;
  {
    std::lock_guard lock(mutex);
    pad = linked;
  }
  if (pad && codec.kind == MediaKind::video)
    gst_pad_send_event(pad.get(), gst_video_event_new_upstream_force_key_unit(
                                      GST_CLOCK_TIME_NONE, TRUE, 0));
}

bool ReceiveChain::connect(GstPad* webrtc_src) {
  State& s = *state_;
  disconnect();
  if (gst_pad_link(webrtc_src, s.sink) != GST_PAD_LINK_OK) return false;
  {
    std::lock_guard lock(s.mutex);
    s.linked = gref<GstPad>::ref(webrtc_src);
  }
  if (s.edge->open) s.ask_key_frame();
  return true;
}

void ReceiveChain::disconnect() {
  gref<GstPad> linked;
  {
    std::lock_guard lock(state_->mutex);
    linked = std::move(state_->linked);
    state_->linked.reset();
  }
  if (linked) gst_pad_unlink(linked.get(), state_->sink);
}

void ReceiveChain::end() {
  State& s = *state_;
  std::lock_guard building(s.building);
  s.edge->open = false;
  if (s.inside.empty()) return;
  g_autoptr(GstPad) first = gst_element_get_static_pad(s.inside.front(), "sink");
  gst_pad_send_event(first, gst_event_new_eos());
}

}  // namespace cfr
