#include "chain_rig.h"

#include <gst/video/video.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "support/picture.h"
#include "support/tone.h"

namespace cfr::test {

namespace {

int time_scale() {
  const char* scale = g_getenv("CFREALTIME_TIME_SCALE");
  return scale ? std::max(1, atoi(scale)) : 1;
}

constexpr std::size_t kKeptPackets = 200;

}  // namespace

void Signal::happened() {
  std::lock_guard lock(mutex_);
  condition_.notify_all();
}

bool Signal::wait(const std::function<bool()>& condition, std::chrono::milliseconds deadline) {
  std::unique_lock lock(mutex_);
  const auto until = std::chrono::steady_clock::now() + deadline * time_scale();
  while (!condition()) {
    if (std::chrono::steady_clock::now() > until) return false;
    condition_.wait_for(lock, std::chrono::milliseconds(20));
  }
  return true;
}

// --- the peer --------------------------------------------------------------------------------

FakePeer::FakePeer(GstElement* pipeline, Signal& signal) : pipeline_(pipeline), signal_(signal) {
  element_ = gref<GstElement>::ref(gst_element_factory_make("identity", nullptr));
  gst_bin_add(GST_BIN(pipeline), element_.get());
  sink_ = gref<GstPad>::adopt(gst_element_get_static_pad(element_.get(), "sink"));
  src_ = gref<GstPad>::adopt(gst_element_get_static_pad(element_.get(), "src"));
  gst_pad_add_probe(
      sink_.get(),
      GstPadProbeType(GST_PAD_PROBE_TYPE_BUFFER | GST_PAD_PROBE_TYPE_BUFFER_LIST |
                      GST_PAD_PROBE_TYPE_EVENT_DOWNSTREAM),
      [](GstPad*, GstPadProbeInfo* info, gpointer self) {
        return static_cast<FakePeer*>(self)->on_input(info);
      },
      this, nullptr);
  // As webrtcbin: a request becomes a PLI, and goes no further by itself.
  gst_pad_add_probe(
      src_.get(), GST_PAD_PROBE_TYPE_EVENT_UPSTREAM,
      [](GstPad*, GstPadProbeInfo* info, gpointer data) {
        auto* self = static_cast<FakePeer*>(data);
        GstEvent* event = GST_PAD_PROBE_INFO_EVENT(info);
        if (GST_EVENT_TYPE(event) == GST_EVENT_SEEK) ++self->seeks;
        const bool request = gst_video_event_is_force_key_unit(event);
        if (request) ++self->key_frame_requests;
        self->signal_.happened();
        return request && self->deaf ? GST_PAD_PROBE_DROP : GST_PAD_PROBE_OK;
      },
      this, nullptr);
  gst_element_sync_state_with_parent(element_.get());
}

FakePeer::~FakePeer() {
  gst_element_set_locked_state(element_.get(), TRUE);
  gst_element_set_state(element_.get(), GST_STATE_NULL);
  gst_bin_remove(GST_BIN(pipeline_), element_.get());
}

GstPadProbeReturn FakePeer::on_input(GstPadProbeInfo* info) {
  if (info->type & GST_PAD_PROBE_TYPE_EVENT_DOWNSTREAM) {
    if (GST_EVENT_TYPE(GST_PAD_PROBE_INFO_EVENT(info)) == GST_EVENT_EOS) ++eos;
    return GST_PAD_PROBE_OK;
  }
  // One by one, as webrtcbin gives them.
  if (info->type & GST_PAD_PROBE_TYPE_BUFFER_LIST) {
    GstBufferList* list = GST_PAD_PROBE_INFO_BUFFER_LIST(info);
    GstFlowReturn flow = GST_FLOW_OK;
    for (guint i = 0; i < gst_buffer_list_length(list) && flow == GST_FLOW_OK; ++i)
      flow = gst_pad_chain(sink_.get(), gst_buffer_ref(gst_buffer_list_get(list, i)));
    gst_buffer_list_unref(list);
    GST_PAD_PROBE_INFO_DATA(info) = nullptr;
    GST_PAD_PROBE_INFO_FLOW_RETURN(info) = flow;
    return GST_PAD_PROBE_HANDLED;
  }
  GstBuffer* buffer = GST_PAD_PROBE_INFO_BUFFER(info);
  ++packets;
  if (GstFlowReturn flow = answer; flow != GST_FLOW_OK) {
    gst_buffer_unref(buffer);
    GST_PAD_PROBE_INFO_DATA(info) = nullptr;
    GST_PAD_PROBE_INFO_FLOW_RETURN(info) = flow;
    signal_.happened();
    return GST_PAD_PROBE_HANDLED;
  }
  {
    std::lock_guard lock(mutex_);
    if (first_.size() < kKeptPackets) {
      std::vector<uint8_t> bytes(gst_buffer_get_size(buffer));
      gst_buffer_extract(buffer, 0, bytes.data(), bytes.size());
      first_.push_back(std::move(bytes));
    }
  }
  if (lose > 0) {
    --lose;
    return GST_PAD_PROBE_DROP;
  }
  if (loses && loses(buffer)) return GST_PAD_PROBE_DROP;
  if (!gst_pad_is_linked(src_.get())) {
    signal_.happened();
    return GST_PAD_PROBE_DROP;
  }
  if (change) GST_PAD_PROBE_INFO_DATA(info) = change(buffer);
  signal_.happened();
  return GST_PAD_PROBE_OK;
}

std::vector<std::vector<uint8_t>> FakePeer::first_packets() {
  std::lock_guard lock(mutex_);
  return first_;
}

void FakePeer::request_key_frame() {
  gst_pad_push_event(sink_.get(),
                     gst_video_event_new_upstream_force_key_unit(GST_CLOCK_TIME_NONE, TRUE, 0));
}

// --- the rig ---------------------------------------------------------------------------------

Rig::Rig(MediaKind kind, const std::string& source, std::shared_ptr<Timeline> timeline) {
  pipeline = gref<GstElement>::sink(gst_pipeline_new(nullptr));
  g_autoptr(GstBus) bus = gst_element_get_bus(pipeline.get());
  gst_bus_set_sync_handler(
      bus,
      [](GstBus*, GstMessage* message, gpointer data) {
        auto* self = static_cast<Rig*>(data);
        if (GST_MESSAGE_TYPE(message) == GST_MESSAGE_ERROR) {
          g_autoptr(GError) error = nullptr;
          g_autofree char* debug = nullptr;
          gst_message_parse_error(message, &error, &debug);
          std::lock_guard lock(self->mutex_);
          self->bus_errors_.push_back(std::string(GST_MESSAGE_SRC_NAME(message)) + ": " +
                                      error->message + " " + (debug ? debug : ""));
        }
        gst_message_unref(message);
        self->signal.happened();
        return GST_BUS_DROP;
      },
      this, nullptr);

  SendChain::Callbacks callbacks;
  callbacks.on_caps = [this](gref<GstCaps> caps) {
    {
      std::lock_guard lock(mutex_);
      caps_.push_back(std::move(caps));
    }
    signal.happened();
  };
  callbacks.on_first_packet = [this] {
    ++first_packets;
    signal.happened();
  };
  callbacks.on_eos = [this] {
    ++sender_eos;
    signal.happened();
  };
  callbacks.on_error = [this](Error error) {
    {
      std::lock_guard lock(mutex_);
      errors_.push_back(std::move(error));
    }
    signal.happened();
  };
  sender = std::make_unique<SendChain>(kind, "send", std::move(callbacks), std::move(timeline));
  gst_bin_add(GST_BIN(pipeline.get()), sender->bin());
  peer = std::make_unique<FakePeer>(pipeline.get(), signal);

  GError* problem = nullptr;
  GstElement* bin = gst_parse_bin_from_description(source.c_str(), TRUE, &problem);
  EXPECT_TRUE(bin) << (problem ? problem->message : "");
  g_clear_error(&problem);
  if (!bin) return;
  gst_bin_add(GST_BIN(pipeline.get()), bin);
  EXPECT_TRUE(gst_element_link(bin, sender->bin()));
  if (GstElement* burn = gst_bin_get_by_name(GST_BIN(pipeline.get()), "burn")) {
    g_autoptr(GstPad) pad = gst_element_get_static_pad(burn, "src");
    burn_counter(pad);
    gst_pad_add_probe(
        pad, GST_PAD_PROBE_TYPE_BUFFER,
        [](GstPad*, GstPadProbeInfo*, gpointer data) {
          auto* self = static_cast<Rig*>(data);
          ++self->burnt_;
          self->signal.happened();
          return GST_PAD_PROBE_OK;
        },
        this, nullptr);
    gst_object_unref(burn);
  }
}

Rig::~Rig() {
  sender->disconnect();
  if (receiver) receiver->disconnect();
  gst_element_set_state(pipeline.get(), GST_STATE_NULL);
  g_autoptr(GstBus) bus = gst_element_get_bus(pipeline.get());
  gst_bus_set_sync_handler(bus, nullptr, nullptr, nullptr);
  peer.reset();
  sender.reset();
  receiver.reset();
}

void Rig::receive(const Codec& codec, const std::string& sink) {
  receiver = std::make_unique<ReceiveChain>(codec, "receive");
  if (!stream_id.empty()) receiver->set_stream_id(stream_id, gst_util_group_id_next());
  receiver->set_on_error([this](Error error) {
    {
      std::lock_guard lock(mutex_);
      errors_.push_back(std::move(error));
    }
    signal.happened();
  });
  gst_bin_add(GST_BIN(pipeline.get()), receiver->bin());
  GError* problem = nullptr;
  sink_bin_ = gst_parse_bin_from_description(sink.c_str(), TRUE, &problem);
  ASSERT_TRUE(sink_bin_) << (problem ? problem->message : "");
  gst_bin_add(GST_BIN(pipeline.get()), sink_bin_);
  GstIterator* sinks = gst_bin_iterate_sinks(GST_BIN(sink_bin_));
  GValue value = G_VALUE_INIT;
  ASSERT_EQ(gst_iterator_next(sinks, &value), GST_ITERATOR_OK);
  output = gref<GstPad>::adopt(
      gst_element_get_static_pad(GST_ELEMENT(g_value_get_object(&value)), "sink"));
  g_value_unset(&value);
  gst_iterator_free(sinks);
  gst_pad_add_probe(
      output.get(),
      GstPadProbeType(GST_PAD_PROBE_TYPE_BUFFER | GST_PAD_PROBE_TYPE_EVENT_DOWNSTREAM),
      [](GstPad*, GstPadProbeInfo* info, gpointer self) {
        static_cast<Rig*>(self)->on_output(info);
        return GST_PAD_PROBE_OK;
      },
      this, nullptr);
  g_autoptr(GstPad) src = gst_element_get_static_pad(receiver->bin(), "src");
  g_autoptr(GstPad) entry = gst_element_get_static_pad(sink_bin_, "sink");
  gst_element_sync_state_with_parent(sink_bin_);
  gst_element_sync_state_with_parent(receiver->bin());
  ASSERT_EQ(gst_pad_link(src, entry), GST_PAD_LINK_OK);
  g_autoptr(GstCaps) accepted = gst_pad_query_caps(entry, nullptr);
  auto configured = receiver->configure(accepted);
  ASSERT_TRUE(configured) << configured.error().message;
}

void Rig::on_output(GstPadProbeInfo* info) {
  if (info->type & GST_PAD_PROBE_TYPE_EVENT_DOWNSTREAM) {
    if (GST_EVENT_TYPE(GST_PAD_PROBE_INFO_EVENT(info)) == GST_EVENT_EOS) ++output_eos;
    signal.happened();
    return;
  }
  GstBuffer* buffer = GST_PAD_PROBE_INFO_BUFFER(info);
  g_autoptr(GstCaps) caps = gst_pad_get_current_caps(output.get());
  Frame frame;
  g_autoptr(GstEvent) segment_event = gst_pad_get_sticky_event(output.get(), GST_EVENT_SEGMENT, 0);
  const GstSegment* segment = nullptr;
  if (segment_event) gst_event_parse_segment(segment_event, &segment);
  if (segment)
    frame.time = gst_segment_to_running_time(segment, GST_FORMAT_TIME, GST_BUFFER_PTS(buffer));
  frame.at_us = g_get_monotonic_time();
  const GstStructure* structure = gst_caps_get_structure(caps, 0);
  gst_structure_get_int(structure, "width", &frame.width);
  gst_structure_get_int(structure, "height", &frame.height);
  std::vector<float> samples;
  if (gst_structure_has_name(structure, "video/x-raw")) frame.counter = counter_of(buffer, caps);
  if (gst_structure_has_name(structure, "audio/x-raw")) {
    samples = samples_of(buffer, caps);
    int rate = 0;
    gst_structure_get_int(structure, "rate", &rate);
    rate_ = rate;
  }
  {
    std::lock_guard lock(mutex_);
    frames_.push_back(frame);
    samples_.insert(samples_.end(), samples.begin(), samples.end());
  }
  signal.happened();
}

void Rig::play() {
  gst_element_set_state(pipeline.get(), GST_STATE_PLAYING);
}

bool Rig::wait_for_caps() {
  return signal.wait([this] { return !caps().empty(); });
}

void Rig::connect() {
  // The receiver first: what is held is sent at once.
  if (receiver) {
    ASSERT_TRUE(receiver->connect(peer->src()));
  }
  ASSERT_TRUE(sender->connect(peer->sink()));
}

void Rig::replace_peer() {
  auto old = std::move(peer);
  sender->disconnect();
  if (receiver) receiver->disconnect();
  const bool deaf = old->deaf;
  old.reset();
  peer = std::make_unique<FakePeer>(pipeline.get(), signal);
  peer->deaf = deaf;
  connect();
}

bool Rig::wait_for_frames(std::size_t count) {
  return signal.wait([&] { return frames().size() >= count; });
}

std::vector<Frame> Rig::frames() {
  std::lock_guard lock(mutex_);
  return frames_;
}

std::vector<float> Rig::samples() {
  std::lock_guard lock(mutex_);
  return samples_;
}

std::string Rig::output_caps() {
  g_autoptr(GstCaps) caps = gst_pad_get_current_caps(output.get());
  g_autofree char* text = caps ? gst_caps_to_string(caps) : nullptr;
  return text ? text : "";
}

std::vector<gref<GstCaps>> Rig::caps() {
  std::lock_guard lock(mutex_);
  return caps_;
}

std::vector<Error> Rig::errors() {
  std::lock_guard lock(mutex_);
  return errors_;
}

std::vector<std::string> Rig::bus_errors() {
  std::lock_guard lock(mutex_);
  return bus_errors_;
}

GstElement* Rig::element(const char* name) {
  return gst_bin_get_by_name(GST_BIN(pipeline.get()), name);
}

std::string Rig::sent(const char* field) {
  auto known = caps();
  if (known.empty()) return "";
  const GValue* value =
      gst_structure_get_value(gst_caps_get_structure(known.back().get(), 0), field);
  if (!value) return "";
  if (G_VALUE_HOLDS_STRING(value)) return g_value_get_string(value);
  g_autofree char* text = gst_value_serialize(value);
  return text;
}

}  // namespace cfr::test
